"""The busy-machine benchmark runs and checks that all settings give equal results."""

from __future__ import annotations

import json
from pathlib import Path

import busy
import pytest


@pytest.mark.slow
def test_quick_run_writes_every_share(tmp_path: Path) -> None:
    file = tmp_path / "busy.json"
    busy.main(["--quick", "--work", "predict", "--json", str(file)])
    records = json.loads(file.read_text())["records"]
    assert [(r["setting"], r["spinning"]) for r in records] == [
        (setting, k) for k in (0, 1) for setting in ("default", "clipvg", "passive")
    ]
    assert all(r["share_of_fair_speed"] > 0 and r["bit_equal"] for r in records)


def test_settings_replace_what_the_caller_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert not {"OMP_WAIT_POLICY", "OMP_NUM_THREADS"} & set(busy.environment("default"))
    assert busy.environment("passive")["OMP_WAIT_POLICY"] == "PASSIVE"
    assert busy.environment("threads:1")["OMP_NUM_THREADS"] == "1"


def test_the_fair_speed_is_the_share_of_the_cores() -> None:
    assert busy.fair_seconds(3.0, threads=2, spinning=0) == 3.0
    assert busy.fair_seconds(3.0, threads=2, spinning=4) == 9.0
