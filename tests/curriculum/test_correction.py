"""Calibration, agreed boxes and fusion as plain functions; worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import ledger

from clipvg.curriculum import (
    agreed_boxes,
    calibrated_threshold,
    fuse,
    soft_weights,
)
from clipvg.curriculum.beyond.fusion import check_fusion
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.measures.fusion.mixture import clean_probability
from clipvg.measures.specs import identity_of, parse_measure
from clipvg.reliability import ScoreMatrix
from clipvg.reliability.histogram import kept


def mixed(seed: int = 0, wrong: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Reliability of 4 000 labels, and which are correct."""
    rng = np.random.default_rng(seed)
    correct = rng.random(4000) >= wrong
    scores = np.where(correct, rng.beta(8, 3, 4000), rng.beta(2, 6, 4000))
    return scores.astype(np.float32), correct


def test_the_calibrated_probability_is_the_share_of_correct_labels() -> None:
    scores, correct = mixed()
    found = clean_probability(scores)
    assert found.mean() == pytest.approx(correct.mean(), abs=0.03)
    for low in (0.1, 0.3, 0.5, 0.7):
        near = (found >= low) & (found < low + 0.2)
        assert found[near].mean() == pytest.approx(correct[near].mean(), abs=0.15)
    assert (np.diff(found[np.argsort(scores)]) >= 0).all()


def test_groups_are_calibrated_by_themselves_and_nan_stays() -> None:
    few, many = mixed(1, wrong=0.1)[0], mixed(2, wrong=0.8)[0]
    scores = np.concatenate([few, many, [np.nan]]).astype(np.float32)
    group = np.repeat([0, 1], [4000, 4001])
    found = clean_probability(scores, group)
    np.testing.assert_allclose(found[:4000], clean_probability(few))
    assert np.isnan(found[-1])
    assert soft_weights(scores, group)[-1] == 0
    assert calibrated_threshold(few) < calibrated_threshold(many)


def test_the_threshold_is_where_the_probability_is_reached() -> None:
    scores, _ = mixed()
    found = clean_probability(scores)
    for p in (0.25, 0.5, 0.9):
        h = calibrated_threshold(scores, p)
        np.testing.assert_array_equal(scores >= h, found >= p)
        h = calibrated_threshold(scores, p, strict=True)
        np.testing.assert_array_equal(kept(scores, h, strict=True), found >= p)
    assert calibrated_threshold(np.full(5, np.nan)) == 1.0
    assert calibrated_threshold(np.float32([0.1, 0.2]), 0.9) == 1.0


def test_boxes_that_agree_elsewhere_replace_a_label() -> None:
    label = np.float64([[0, 0, 10, 10]] * 4)
    first = np.float64([[20, 20, 30, 30], [0, 0, 10, 9], [20, 20, 30, 30], [np.nan] * 4])
    second = np.float64([[20, 20, 30, 32], [0, 0, 10, 9], [50, 50, 60, 60], [20, 20, 30, 30]])
    # Row 1 confirms the label, in row 2 the boxes disagree, in row 3 one is missing.
    found = agreed_boxes(np.stack([first, second]), label, 0.7)
    assert found.rows.tolist() == [0]
    np.testing.assert_allclose(found.boxes, [[20, 20, 30, 31]])
    np.testing.assert_allclose(found.agreement, [100 / 120])
    assert len(agreed_boxes(np.stack([first, second]), label, 0.9)) == 0
    with pytest.raises(InputError, match="two or more"):
        agreed_boxes(first[None], label)


def test_a_new_box_is_written_in_the_format_of_its_row() -> None:
    labels = LabelTable.from_columns(
        image=["a.jpg"] * 3,
        expression=["x"] * 3,
        box=[[0, 0, 10, 10], [0, 0, 10, 10], [1, 2, 3, 4]],
        box_format=["xyxy", "xywh", "xywh"],
    )
    boxes = np.float64([[20, 20, 30, 40], [20, 20, 30, 40], [1, 2, 4, 6]])
    found = agreed_boxes(np.stack([boxes, boxes]), labels.boxes(), 0.7)
    assert found.rows.tolist() == [0, 1]
    changed = found.apply(labels)
    np.testing.assert_array_equal(changed.boxes(), boxes)
    assert changed.table.column("box").to_pylist()[1] == [20, 20, 10, 20]
    table = found.table(labels)
    assert table.table.column("adapt.old_box").to_pylist() == [[0, 0, 10, 10]] * 2
    assert found.select(np.array([False, True, True])).rows.tolist() == [1]


def test_measures_fuse_the_scores_that_are_there() -> None:
    labels = ledger.make_labels()
    rows = np.float32([ledger.BY["a"][:8], ledger.BY["b"][:8]])
    scores = ScoreMatrix(("a", "b"), rows, labels.sources(), (("a",), ("b",)))
    found = fuse(scores, labels, ["low=weighted_mean,geometric=true", "weighted_mean,of=a+low"])
    assert found.names == ("low", "weighted_mean")
    assert found.trained_on == ((), ())
    geometric = np.sqrt(rows[0] * rows[1])
    np.testing.assert_allclose(found["low"], geometric, rtol=1e-6)
    np.testing.assert_allclose(found["weighted_mean"], (rows[0] + geometric) / 2, rtol=1e-6)
    with pytest.raises(InputError, match="two measurers are called 'a'"):
        fuse(scores, labels, ["a=weighted_mean"])
    with pytest.raises(InputError, match="no measure 'wheighted_mean'"):
        fuse(scores, labels, ["wheighted_mean"])


def test_measures_with_answers_of_their_own_need_no_model_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text("row,answer\n0,yes\n")
    check_fusion(
        [parse_measure(f"verifier,path={tmp_path / 'answers.csv'}")], ["a"], has_models=False
    )
    with pytest.raises(InputError, match="'likelihood' asks a model"):
        check_fusion([parse_measure("likelihood")], ["a"], has_models=False)


def test_a_model_of_a_measures_own_counts_by_what_its_folder_holds(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("1")
    spec = parse_measure(f"detector,model={tmp_path}")
    before = identity_of(spec)
    (tmp_path / "weights").write_text("2")
    assert identity_of(spec) != before
    named = parse_measure(f"likelihood,model={tmp_path}")  # here `model` names a measurer
    assert identity_of(named)["options"] == {"model": str(tmp_path)}
