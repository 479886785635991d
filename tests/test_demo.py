"""The demo, cut down to seconds: every part runs, and its numbers are where scripts expect them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import clipvg.demo as demo
from clipvg.model import ModelOptions
from clipvg.training import FitConfig


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "NUM_TRAIN", 40)
    monkeypatch.setattr(demo, "NUM_VALIDATION", 12)
    monkeypatch.setattr(demo, "NUM_TEST", 12)
    full = demo.recipe

    def recipe() -> tuple[str, ModelOptions, FitConfig]:
        backbone, model, training = full()
        model = dataclasses.replace(model, width=32, layers=1, heads=2, feedforward=32)
        training = dataclasses.replace(training, steps=3, warmup_steps=1, batch_size=16)
        return backbone, model, training

    monkeypatch.setattr(demo, "recipe", recipe)


@pytest.mark.usefixtures("short")
def test_demo_writes_summary_and_report_and_resumes(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    summary = demo.run_demo(tmp_path, seeds=2, progress=False)
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written == json.loads(json.dumps(summary))
    assert set(summary["acc_0.5"]) == {"all_labels", "ssa", "clean_labels"}
    for values in (*summary["acc_0.5"].values(), summary["auroc"], summary["threshold"]):
        assert len(values) == 2
        assert all(0 <= value <= 1 for value in values)
    assert all(
        0 < kept <= total
        for kept, total in zip(summary["kept"], summary["num_labels"], strict=True)
    )
    page = (tmp_path / "report.html").read_text()
    assert "<img" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    request.getfixturevalue("undrawn")
    again = demo.run_demo(tmp_path, seeds=2, progress=False)
    for name in ("acc_0.5", "auroc", "threshold", "kept"):
        assert again[name] == summary[name]
