from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "baselines")]


@pytest.fixture(autouse=True)
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the machine's matrix-product rate with small products: larger ones take seconds."""
    from _rescoring import compare, peak

    monkeypatch.setattr(peak, "BLOCK", [(64, 64, 64)])
    monkeypatch.setattr(peak, "_SIDE", {"cpu": 64})
    monkeypatch.setattr(compare, "_AT_A_TIME", {"cpu": (1, 4, 64)})
