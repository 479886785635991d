"""Training and adapting on as few labels as there can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.adapting import QUIET, SMALL
from support.tiny import make_labels

import clipvg
from clipvg.api import Curriculum
from clipvg.curriculum import SSAConfig
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.training import FitConfig


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    table = make_labels(tmp_path_factory.mktemp("images"))
    return table.with_column("source", ["template"] * len(table))


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("options", [{}, {"batch_size": 1}, {"drop_last": False}])
@pytest.mark.parametrize("count", [1, 3])
def test_fewer_labels_than_a_batch(
    labels: LabelTable, tmp_path: Path, count: int, options: dict, augment: bool
) -> None:
    few = labels.select(np.arange(count))
    training = FitConfig(**{"epochs": 2, "batch_size": 8, "augment": augment, **options})
    result = clipvg.train(
        few,
        validation=few,
        out=tmp_path,
        backbone="clipvg-tiny",
        model=SMALL,
        training=training,
        run=QUIET,
    )
    batches = -(-count // training.batch_size)
    assert result.summary["last"]["step"] == 2 * batches
    assert np.isfinite(result.summary["last"]["loss"])


@pytest.mark.parametrize("heavy", range(5))
def test_one_label_with_all_the_weight(labels: LabelTable, tmp_path: Path, heavy: int) -> None:
    """It can serve for training or for validation, not for both."""
    few = labels.select(np.arange(5)).with_column("weight", np.eye(5)[heavy])
    training = FitConfig(epochs=1, batch_size=8, augment=False)
    with pytest.raises(InputError, match="on have weight 0; pass validation labels"):
        clipvg.adapt(
            few, out=tmp_path, backbone="clipvg-tiny", model=SMALL, training=training, run=QUIET
        )


@pytest.mark.parametrize("search", ["separate", "together"])
@pytest.mark.parametrize("start", [0.0, 0.5, 1.0])
def test_subsets_that_are_empty_or_smaller_than_a_batch(
    labels: LabelTable, tmp_path: Path, search: str, start: float
) -> None:
    few = labels.select(np.arange(5))
    result = clipvg.adapt(
        few,
        validation=few.select([0]),
        out=tmp_path,
        backbone="clipvg-tiny",
        model=SMALL,
        training=FitConfig(epochs=1, batch_size=8, augment=False),
        curriculum=Curriculum(search=SSAConfig(start=start, candidates=search)),
        run=QUIET,
    )
    assert 1 <= result.summary["kept"] <= 5
    assert all(stage["kept"] >= 1 for stage in result.summary["stages"])
