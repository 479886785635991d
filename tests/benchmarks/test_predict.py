"""The benchmark of `predict` runs, and the results of what it times agree."""

from __future__ import annotations

import json
from pathlib import Path

import predict
import pytest


@pytest.mark.parametrize("case", list(predict.IMAGES))
def test_quick_run_writes_what_it_measured(tmp_path: Path, case: str) -> None:
    file = tmp_path / "predict.json"
    predict.main(["--quick", "--device", "cpu", "--case", case, "--json", str(file)])
    records = json.loads(file.read_text())["records"]
    assert [record["provider"] for record in records] == [
        "engine", "predict", "boxes alone", "table",
    ]  # fmt: skip
    for record in records:
        assert record["labels"] == 32
        assert record["labels_per_s"] > 0
        assert record["max_difference"] < 1e-4
    assert records[0]["ratio"] == 1
