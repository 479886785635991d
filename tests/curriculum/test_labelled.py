"""Semi-supervised SSA: annotated labels teach the measurer and are part of every training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.toy import ToyLearner, adapt, make_labels

from clipvg.configs import read_recipe
from clipvg.curriculum import Beyond, join_labelled
from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels

ANNOTATED = 16


def both(wrong: float = 0.4) -> LabelTable:
    """A few correct labels, and many pseudo-labels, some of them wrong, on other images."""
    pseudo = make_labels(120, seed=0, wrong=wrong)
    names = [f"p{name}" for name in pseudo.image_names]
    return join_labelled(
        make_labels(ANNOTATED, seed=5, wrong=0.0), pseudo.with_column("image", names)
    )


@pytest.fixture(scope="module")
def validation() -> LabelTable:
    return make_labels(40, seed=1, wrong=0.0)


def test_the_measurer_learns_from_annotated_labels_alone(
    tmp_path: Path, validation: LabelTable
) -> None:
    learner = ToyLearner()
    result = adapt(tmp_path, labels=both(), validation=validation, learner=learner)
    assert learner.trained[0] == ANNOTATED
    assert result.selected[:ANNOTATED].all()
    assert result.summary.labels.labelled == ANNOTATED
    assert result.summary.no_curriculum is not None
    assert result.summary.no_curriculum.kept == ANNOTATED
    assert result.summary.kept == result.selected.sum() > ANNOTATED
    kept = read_labels(tmp_path / "selected.parquet")
    assert len(kept) == result.summary.kept
    right = np.abs(kept.boxes() - kept.truth()).max(axis=1) < 8
    assert right.mean() > 0.9


def test_annotated_labels_count_in_full_in_every_variant(
    tmp_path: Path, validation: LabelTable
) -> None:
    beyond = Beyond(soft=True, calibrated=0.5, rounds=2)
    result = adapt(tmp_path, labels=both(), validation=validation, beyond=beyond)
    assert result.summary.beyond is not None
    names = [variant.name for variant in result.summary.beyond.variants]
    assert {"plain", "soft", "calibrated", "round 1"} <= {*names}
    for stage in (tmp_path / "stages").iterdir():
        assert json.loads((stage / "stage.json").read_text())["kept"] >= ANNOTATED
    assert result.selected[:ANNOTATED].all()


def test_a_run_is_read_again(tmp_path: Path, validation: LabelTable) -> None:
    adapt(tmp_path, labels=both(), validation=validation)
    learner = ToyLearner()
    result = adapt(tmp_path, labels=both(), validation=validation, learner=learner)
    assert learner.trained == []
    again = type(result.summary).from_dict(json.loads((tmp_path / "summary.json").read_text()))
    assert again.labels.labelled == ANNOTATED
    assert again.first_name == "the annotated labels"


def test_the_recipe_for_cleaning_leaves_out_wrong_labels(
    tmp_path: Path, validation: LabelTable
) -> None:
    labels, recipe = make_labels(400, seed=3, wrong=0.1), read_recipe("cleaning")
    beyond = Beyond(**recipe["beyond"])
    adapt(tmp_path, labels=labels, validation=validation, beyond=beyond, **recipe["search"])
    kept = read_labels(tmp_path / "selected.parquet")
    wrong = np.abs(kept.boxes() - kept.truth()).max(axis=1) > 8
    weight = kept.weights()
    assert weight[wrong].sum() < 0.02 * weight.sum()
    assert weight.sum() > 0.75 * len(labels)


def test_pseudo_labels_that_contradict_are_refused_or_left_out() -> None:
    def table(*boxes: float) -> LabelTable:
        columns: dict[str, Any] = {
            "image": ["a.jpg"] * len(boxes),
            "expression": ["Red dog!", "sky", "tree"][: len(boxes)],
            "box": [[x, 0, x + 10, 10] for x in boxes],
        }
        return LabelTable.from_columns(**columns)

    annotated = table(0).with_column("expression", ["red dog"])
    assert len(join_labelled(annotated, table(1, 50, 70))) == 4
    with pytest.raises(InputError, match=r"1 of 3 pseudo-labels.*'Red dog!' of a.jpg.*on_error"):
        join_labelled(annotated, table(30, 50, 70))
    with pytest.warns(UserWarning, match="they are left out"):
        joined = join_labelled(annotated, table(30, 50, 70), on_error="drop")
    assert joined.expressions == ["red dog", "sky", "tree"]
    with pytest.raises(InputError, match="none is left"):
        join_labelled(annotated, table(30), on_error="drop")
    with pytest.raises(InputError, match="no annotated labels"):
        join_labelled(annotated.select(range(0)), table(1))
