from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from support import fits
from support.processes import as_two

from clipvg.labels import LabelTable
from clipvg.training import evaluate, fit


@pytest.fixture(scope="module")
def together(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Results of two processes that train and measure as one."""
    folder = tmp_path_factory.mktemp("two")
    codes, _, err = as_two("support.two_processes:train", pictures, folder)
    assert codes == [0, 0], err
    return torch.load(folder / "result.pt", weights_only=True)


def test_two_processes_train_as_one(
    labels: LabelTable, validation: LabelTable, together: dict
) -> None:
    one = fit(fits.make_model(), labels, config=fits.QUICK, validation=validation, progress=False)
    difference = fits.largest_difference(fits.state(one.model), together["last"], key_biases=False)
    assert difference < 1e-5
    for mine, theirs in zip(one.metrics, together["metrics"], strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)
    np.testing.assert_allclose(one.history, together["history"].numpy(), atol=2e-3)


def test_processes_end_with_equal_weights(together: dict) -> None:
    assert together["equal"]


def test_each_label_is_counted_once(validation: LabelTable, together: dict) -> None:
    odd = validation.select(np.arange(23))
    alone = evaluate(fits.make_model(), odd).to_dict()
    assert together["evaluation"] == pytest.approx(
        {k: alone[k] for k in ("count", "acc_0.5", "mean_iou")}, abs=1e-6
    )


def test_augmented_training_runs_with_an_uneven_last_batch(together: dict) -> None:
    assert together["augmented"] < 3.0


def test_two_processes_share_pictures_as_one(labels: LabelTable, together: dict) -> None:
    config = dataclasses.replace(fits.QUICK, augment=True, group_by_image=3, epochs=2)
    one = fit(fits.make_model(), labels, config=config, progress=False)
    difference = fits.largest_difference(
        fits.state(one.model), together["shared"], key_biases=False
    )
    assert difference < 1e-5


def test_several_processes_resume(together: dict) -> None:
    assert together["resumed"] == 0
