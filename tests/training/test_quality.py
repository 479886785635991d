"""The quality head: fitted on held-out labels, kept in checkpoints, dropped by a training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support import fits
from support.tiny import make_labels, make_model

import clipvg
from clipvg.api import Curriculum, RunOptions
from clipvg.api.run import judge
from clipvg.curriculum import SSAConfig
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel, ModelOptions, load
from clipvg.model.backbone import Backbone
from clipvg.model.quality import QualityHead
from clipvg.runtime import distributed
from clipvg.runtime.distributed import World
from clipvg.training import FitConfig, GroundingLearner, fit, fit_quality, matching, quality

SMALL = ModelOptions(pretrained=None, width=16, layers=1, heads=2, feedforward=16)
SHORT = dataclasses.replace(fits.QUICK, epochs=1)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Train the matcher for a few steps only: how good it is then is not tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_LEAST_STEPS", 10)
        yield


@pytest.fixture(scope="module")
def model() -> GroundingModel:
    return make_model()


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory, model: GroundingModel) -> LabelTable:
    """Labels for about half of which the model's own box is right."""
    labels = make_labels(tmp_path_factory.mktemp("held"), images=60, per_image=2)
    boxes = labels.boxes().astype(np.float64)
    for row in range(0, len(labels), 2):
        image = labels.image_path(labels.image_names[row])
        boxes[row] = model.predict(image, labels.expressions[row], scores=False)[0]
    return labels.with_column("box", boxes)


@pytest.fixture(scope="module")
def judged(model: GroundingModel, held_out: LabelTable) -> GroundingModel:
    assert fit_quality(model, held_out, held_out)
    return model


def test_boxes_stay_and_scores_are_probabilities(
    judged: GroundingModel, held_out: LabelTable, tmp_path: Path
) -> None:
    image = held_out.image_path(held_out.image_names[0])
    found = judged.predict(image, ["red dog", "sky"])
    np.testing.assert_array_equal(found, make_model().predict(image, ["red dog", "sky"]))
    assert found.scored_by == {"scores": "quality head", "present": "quality head"}
    for values in (found.scores, found.present):
        assert ((values > 0) & (values < 1)).all()
    judged.save_pretrained(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.config.quality
    for name in ("boxes", "scores", "present"):
        expected = getattr(found, name)
        np.testing.assert_array_equal(
            getattr(again.predict(image, ["red dog", "sky"]), name), expected
        )
    half = again.half().predict(image, ["red dog", "sky"])
    np.testing.assert_allclose(half.scores, found.scores, atol=0.02)


def test_rank_reads_the_words_in_each_box(judged: GroundingModel, held_out: LabelTable) -> None:
    image = held_out.image_path(held_out.image_names[0])
    boxes = [[0, 0, 20, 20], [5, 5, 30, 30], [0, 0, 20, 20]]
    chance = judged.rank(image, "red dog", boxes)
    both = judged.rank(image, ["a cat", "red dog"], boxes)
    np.testing.assert_allclose(both[1], chance, atol=1e-5)
    assert ((chance > 0) & (chance < 1)).all()
    assert chance[0] == pytest.approx(chance[2])
    assert chance[0] != chance[1]


def test_equal_seeds_give_equal_heads(judged: GroundingModel, held_out: LabelTable) -> None:
    other = make_model()
    fit_quality(other, held_out, held_out)
    assert other.quality is not None
    assert judged.quality is not None
    for name, value in judged.quality.state_dict().items():
        torch.testing.assert_close(other.quality.state_dict()[name], value, msg=name)


def test_few_or_equal_labels_give_none(held_out: LabelTable) -> None:
    model = make_model()
    with pytest.warns(UserWarning, match="99 held-out labels are fewer than 100"):
        assert not fit_quality(model, held_out, held_out.select(np.arange(99)))
    wrong = held_out.with_column("box", np.tile([0.0, 0, 1, 1], (len(held_out), 1)))
    with pytest.warns(UserWarning, match="right, or wrong, on nearly all"):
        assert not fit_quality(model, wrong, wrong)
    assert model.quality is None


def test_a_training_drops_it(judged: GroundingModel, held_out: LabelTable, tmp_path: Path) -> None:
    judged.save_pretrained(tmp_path / "model")
    again = load(tmp_path / "model")
    fit(again, held_out, config=FitConfig(steps=1, augment=False, history=False), progress=False)
    assert again.quality is None
    assert not again.config.quality


def test_of_several_processes_the_first_fits_and_all_get_its_head(
    judged: GroundingModel, held_out: LabelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, head = make_model(), judged.quality
    assert head is not None
    monkeypatch.setattr(distributed, "join", lambda device: World(rank=1, size=2))
    monkeypatch.setattr(distributed, "together", lambda action, world: [head, action()])
    monkeypatch.setattr(quality, "fit_quality", lambda *given, **options: pytest.fail("fitted"))
    assert judge(second, held_out, held_out, FitConfig())
    assert second.quality is head
    assert second.config.quality


def test_a_finished_run_keeps_its_head(
    held_out: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"validation": held_out, "backbone": "clipvg-tiny", "model": SMALL, "training": SHORT}
    silent = RunOptions(progress=False, report=False)
    search = Curriculum(search=SSAConfig(step=0.5))
    calls = {
        "train": lambda: clipvg.train(held_out, out=tmp_path / "train", run=silent, **options),
        "adapt": lambda: clipvg.adapt(
            held_out, out=tmp_path / "adapt", curriculum=search, run=silent, **options
        ),
    }
    monkeypatch.setattr(quality, "fit_quality", give_a_head)
    for name, call in calls.items():
        call()
        first = load(tmp_path / name / "model").quality
        with monkeypatch.context() as patch:
            patch.setattr(quality, "fit_quality", pytest.fail)
            call()
        again = load(tmp_path / name / "model").quality
        assert first is not None
        assert again is not None
        for key, value in first.state_dict().items():
            assert torch.equal(again.state_dict()[key], value), key


def give_a_head(model: GroundingModel, *_: object, **__: object) -> bool:
    model.keep_quality(QualityHead(model.reg_token.embedding_dim))
    return True


def test_a_head_is_not_kept_for_other_weights(
    held_out: LabelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, before = make_model(1), make_model(2)
    give_a_head(before)
    monkeypatch.setattr(quality, "fit_quality", give_a_head)
    assert judge(model, held_out, held_out, FitConfig(), before=before)
    assert model.quality is not before.quality


def test_a_learner_lends_its_features(
    held_out: LabelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = GroundingLearner(
        lambda seed: make_model(), FitConfig(augment=False), held_out, progress=False
    )
    learner.prepare(held_out)
    monkeypatch.setattr(Backbone, "image_features", lambda *given: pytest.fail("encoded again"))
    assert judge(make_model(), held_out, held_out, FitConfig(), learner=learner)
