from __future__ import annotations

import _harness
import cotraining
import pytest


def test_it_times_what_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WARM_UP_S", "MEASURE_S", "MIN_RUNS"):  # restored after --quick changes them
        monkeypatch.setattr(_harness, name, getattr(_harness, name))
    records = cotraining.main(["cached", "--quick"])
    assert records[0]["provider"] == "three on their subsets"
    assert records[-1]["cost_in_trainings"] == 1
    assert all(record["ms_50"] > 0 for record in records)
