"""Notes on a result that is worse than a stage of its run, or rests on few labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from support import ledger, toy

from clipvg.curriculum.adapted import notes


def test_a_result_below_an_earlier_stage_says_where_that_is(tmp_path: Path) -> None:
    summary = ledger.adapt(tmp_path).summary
    assert summary.notes == ()
    first, base = summary.steps[0], summary.no_curriculum
    stage = next(s.stage for s in first.stages if s.threshold == first.threshold)
    (note,) = notes(replace(summary, score=1.0))
    assert "The result (100.0 %) is worse than the model after source 'a' (200.0 %)" in note
    assert f"stages/{stage}/model" in note
    (note,) = notes(replace(summary, score=base.score - 1, steps=summary.steps[-1:]))
    assert f"the model trained on all labels ({100 * base.score:.1f} %)" in note
    assert f"stages/{base.stage}/model" in note


def test_few_labels_are_said_and_not_chosen_by_default(tmp_path: Path) -> None:
    summary = toy.adapt(tmp_path).summary
    assert min(stage.kept for stage in summary.steps[0].stages) >= 0.05 * summary.labels.count
    assert summary.notes == ()
    (note,) = notes(replace(summary, kept=3))
    assert f"Only 3 of {summary.labels.count} labels were kept" in note
