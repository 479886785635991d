from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import fits

from clipvg.labels import LabelTable
from clipvg.model.grounder import GroundingModel
from clipvg.training import GroundingLearner, evaluate


def make_learner(validation: LabelTable | None = None, **options: Any) -> GroundingLearner:
    config = dataclasses.replace(fits.QUICK, **options)
    return GroundingLearner(fits.make_model, config, validation, progress=False)


def test_trainings_are_repeatable_and_differ_by_seed(labels: LabelTable) -> None:
    learner = make_learner()
    first, again, other = (fits.state(learner.fit(labels, seed=s).model) for s in (0, 0, 1))
    assert fits.largest_difference(first, again) == 0
    assert fits.largest_difference(first, other) > 1e-3


def test_fit_many_is_fit_by_row(labels: LabelTable) -> None:
    keep = np.arange(len(labels)) % np.array([[2], [3]]) == 0
    learner = make_learner()
    many = learner.fit_many(labels, keep, seed=2)
    for kept, result in zip(keep, many, strict=True):
        single = learner.fit(labels, weights=kept, seed=2)
        assert fits.difference(single.model, result.model) == 0


@pytest.mark.parametrize("options", [{"epochs": 4}, {"steps": 12}, {"epochs": 8, "steps": 12}])
def test_a_shorter_training_takes_a_share_of_the_steps(
    labels: LabelTable, options: dict[str, Any]
) -> None:
    learner = make_learner(**options)  # three steps per epoch
    half, third = learner.shorter(0.5), learner.shorter(0.5).shorter(2 / 3)
    assert [one.fit(labels).steps for one in (learner, half, third)] == [12, 6, 4]
    assert [fit.steps for fit in half.fit_many(labels, np.ones((2, len(labels)), bool))] == [6, 6]
    assert learner.shorter(1e-9).fit(labels).steps == 1
    expected = make_learner(steps=6).fit(labels).model
    assert fits.difference(expected, half.fit(labels).model) == 0


def test_init_starts_from_a_model_and_leaves_it_alone(labels: LabelTable) -> None:
    learner = make_learner(steps=1, lr=1e-9)
    start = fits.make_model(seed=9)
    before = fits.state(start)
    result = learner.fit(labels, init=start, seed=0)
    assert fits.largest_difference(before, fits.state(result.model)) < 1e-6
    assert fits.largest_difference(before, fits.state(start)) == 0


def test_pictures_are_encoded_once_in_a_learners_life(
    labels: LabelTable, validation: LabelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    original = GroundingModel.encode_images

    def encode(self: GroundingModel, images: Any) -> Any:
        encoded.append(len(images))
        return original(self, images)

    monkeypatch.setattr(GroundingModel, "encode_images", encode)
    learner = make_learner(validation)
    result = learner.fit(labels)
    learner.fit(labels.select(np.arange(12)), seed=1)
    learner.evaluate(result.model, validation)
    assert sum(encoded) == labels.num_images + validation.num_images


def test_evaluate_is_accuracy_at_one_half(labels: LabelTable) -> None:
    learner = make_learner(epochs=10, lr=5e-3)
    model = learner.fit(labels).model
    assert learner.evaluate(model, labels) == evaluate(model, labels).accuracy[0.5]


def test_a_folder_makes_it_resumable(labels: LabelTable, tmp_path: Path) -> None:
    learner = make_learner()
    first = learner.fit(labels, out=tmp_path / "stage")
    again = learner.fit(labels, out=tmp_path / "stage")
    assert fits.difference(first.model, again.model) == 0
    assert not (tmp_path / "stage" / "features").exists()  # the learner's own cache is used
