"""What a benchmark record says about the machine."""

from __future__ import annotations

import _harness
import pytest
from _rescoring.peak import core_name, product_rates


@pytest.mark.parametrize(
    ("maker", "family", "model", "expected"),
    [
        ("AuthenticAMD", "26", "2", "zen5"),
        ("GenuineIntel", "6", "207", "emeraldrapids"),
        ("GenuineIntel", "6", "9999", "genuineintel-6-9999"),
    ],
)
def test_a_core_has_a_name(maker: str, family: str, model: str, expected: str) -> None:
    assert core_name({"vendor_id": maker, "cpu family": family, "model": model}) == expected


def test_conditions_name_the_processor_and_how_threads_wait() -> None:
    found = _harness.conditions("cpu")
    assert found["cpu_core"] == core_name()
    assert found["waiting"]
    assert _harness.place("cpu").startswith(f"{core_name()}-cpu{found['cpu_threads']}-pt")


def test_products_are_measured_in_each_precision() -> None:
    rates = product_rates("cpu", seconds=0.01)
    assert set(rates) == {"fp32", "bf16"}
    assert min(rates.values()) > 0
