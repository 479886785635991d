"""Sources that do not help are left out; worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from support import ledger, toy

from clipvg.curriculum import Adapted, Beyond
from clipvg.report.beyond import variants_table


def adapt(out: Path, kept: str, **options: object) -> Adapted:
    """Run MSA on scores that keep some labels at every threshold and the others at none."""
    labels = ledger.make_labels("abc")
    scores = [1.0 if name in kept.split() else np.nan for name in labels.expressions]
    scored = labels.with_column("reliability.m1", np.array(scores, np.float32))
    return ledger.adapt(out, scored, scored_by=["m1"], **options)


def test_a_source_that_makes_the_model_worse_is_taken_back(tmp_path: Path) -> None:
    learner = ledger.LedgerLearner()
    options = {"learner": learner, "beyond": Beyond(drop_sources=True)}
    result = adapt(tmp_path, "a0 a1 b0 b1 c1 c3", **options)
    # a0 a1 is worth 2, with b0 b1 4, with c1 c3 again 2: without c it is 4, without a or b 0.
    plain, fewer = result.summary.beyond.variants
    assert (plain.score, fewer.name, fewer.score) == (2.0, "fewer sources", 4.0)
    assert fewer.left_out == {"c": {"with": 2.0, "without": 4.0}}
    assert result.summary.beyond.chosen == "fewer sources"
    names = np.array(ledger.make_labels("abc").expressions)
    assert names[result.selected].tolist() == ["a0", "a1", "b0", "b1"]
    said = "without c (400.0 % instead of 200.0 % with it)"
    assert result.summary.notes[-1] == f"The result was trained {said}."
    assert f"fewer sources: {said}" in variants_table(result.summary.beyond, "score", None).note
    # The searches have already trained without c, and then without b, so these are not repeated.
    new = learner.trained[learner.trained.index("a0 a1 b0 b1 c1 c3") + 1 :]
    assert new == ["b0 b1 c1 c3", "a0 a1 c1 c3", "b0 b1"]
    assert fewer.trainings == result.summary.num_trainings
    assert len(learner.trained) == len(set(learner.trained))


def test_the_first_source_and_several_can_go(tmp_path: Path) -> None:
    beyond = Beyond(drop_sources=True)
    first = adapt(tmp_path / "first", "a2 a3 b0 b1 c0 c2", beyond=beyond)
    assert first.summary.beyond.winner.left_out == {"a": {"with": 2.0, "without": 4.0}}
    two = adapt(tmp_path / "two", "a0 a1 b2 b3 c1 c3", beyond=beyond)
    # The sources are worth 2 - 3 - 2: the worst goes first.
    expected = {"b": {"with": -3.0, "without": 0.0}, "c": {"with": 0.0, "without": 2.0}}
    assert two.summary.beyond.winner.left_out == expected
    assert [*two.summary.beyond.winner.left_out] == ["b", "c"]
    assert two.summary.kept == 2


def test_where_all_sources_help_none_goes(tmp_path: Path) -> None:
    beyond = Beyond(drop_sources=True)
    result = adapt(tmp_path / "msa", "a0 a1 b0 b1 c0 c2", beyond=beyond)
    assert [variant.name for variant in result.summary.beyond.variants] == ["plain"]
    assert "fewer sources" in result.summary.beyond.skipped
    one = toy.adapt(tmp_path / "ssa", beyond=beyond)
    assert "fewer sources" in one.summary.beyond.skipped


def test_in_a_round_sources_are_taken_back_too(tmp_path: Path) -> None:
    beyond = Beyond(drop_sources=True, rounds=1)
    ledger.adapt(tmp_path, ledger.make_labels("abc"), beyond=beyond)
    learner = ledger.LedgerLearner()
    again = ledger.adapt(tmp_path, ledger.make_labels("abc"), beyond=beyond, learner=learner)
    assert learner.trained == []
    summary = json.loads((tmp_path / "summary.json").read_text())["beyond"]
    tried = {*summary["skipped"], *(variant["name"] for variant in summary["variants"])}
    assert {"fewer sources", "round 1, fewer sources"} <= tried
    assert again.summary.beyond.chosen in tried
