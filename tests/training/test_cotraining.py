from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import fits
from support.processes import killed
from training.test_resume import WRITES, assert_same, interrupt_at

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.model.backbone import Backbone
from clipvg.model.grounder import GroundingModel
from clipvg.training import Fit, GroundingLearner, fit, fit_many
from clipvg.training.loop import rungs
from clipvg.training.trainer import Trainer


def candidates(labels: LabelTable) -> np.ndarray:
    """Three nested subsets, the last so small that many batches hold none of its labels."""
    rows = np.arange(len(labels))
    return np.stack([rows % 4 > 0, rows % 2 == 0, rows < 3])


def model_and_options(**options: Any) -> tuple[GroundingModel, dict[str, Any]]:
    model = {
        k: options.pop(k) for k in ("dropout", "prefix", "train_visual_positions") if k in options
    }
    calls = {k: options.pop(k) for k in ("validation", "features") if k in options}
    config = dataclasses.replace(fits.QUICK, **options)
    return fits.make_model(**model), {"config": config, "progress": False, **calls}


def together(labels: LabelTable, outs: Any = None, judge: Any = None, **options: Any) -> list[Fit]:
    model, calls = model_and_options(**options)
    return fit_many(model, labels, candidates(labels), outs=outs, judge=judge, **calls)


def apart(labels: LabelTable, **options: Any) -> list[Fit]:
    fits = []
    for kept in candidates(labels):
        model, calls = model_and_options(**options)
        fits.append(fit(model, labels, weights=kept, **calls))
    return fits


@pytest.mark.parametrize("steps", [7, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dropout": 0.2},
        {"cache_features": False, "dropout": 0.2},
        {"augment": True},
        {"augment": True, "dropout": 0.2},
        {"beta2": 0.9, "clip_norm": 0.3, "standardise": True},
        {"batch_size": 4, "accumulate": 2, "dropout": 0.2, "drop_last": False},
        {"batch_size": 4, "schedule": "poly", "warmup_steps": 5, "clip_norm": 0.0},
        {"prefix": "learned", "batch_size": 4},
        {"train_visual_positions": True, "batch_size": 4},
        # bfloat16 shows any rounding, so all must be computed alike: no label is left out
        {"amp": "bf16", "augment": True, "dropout": 0.1},
    ],
    ids=lambda options: ",".join(options) or "plain",
)
def test_it_equals_separate_trainings(
    labels: LabelTable, validation: LabelTable, options: dict[str, Any], steps: int
) -> None:
    """The best epoch of each is chosen by its own validation."""
    options = {"steps": steps, "validation": validation, "evaluate_every": 2, **options}
    for one, other in zip(together(labels, **options), apart(labels, **options), strict=True):
        assert fits.difference(one.model, other.model, key_biases=False) < 1e-5
        assert one.best == other.best
        assert [line["step"] for line in one.metrics] == [line["step"] for line in other.metrics]
        assert one.metrics[-1]["loss"] == pytest.approx(other.metrics[-1]["loss"], abs=1e-5)
        np.testing.assert_allclose(one.history, other.history, atol=2e-3)


def test_on_several_threads_it_is_the_same(labels: LabelTable) -> None:
    torch.set_num_threads(2)
    both, again = together(labels, steps=8), together(labels, steps=8)
    torch.set_num_threads(1)
    for first, second, alone in zip(both, again, apart(labels, steps=8), strict=True):
        assert fits.difference(first.model, second.model) == 0
        assert fits.difference(first.model, alone.model, key_biases=False) < 1e-5


def test_labels_of_weight_zero_are_as_good_as_not_there(labels: LabelTable) -> None:
    """Leaving them out of the products equals multiplying them by 0."""
    kept = candidates(labels)[1]
    model, calls = model_and_options(steps=20)
    left_out = fit(model, labels, weights=kept, **calls)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_taught", lambda self, batch, part: batch)
        model, calls = model_and_options(steps=20)
        multiplied = fit(model, labels, weights=kept, **calls)
    assert fits.difference(left_out.model, multiplied.model, key_biases=False) < 1e-5
    assert left_out.history is not None
    assert np.isnan(left_out.history[:, ~kept]).all()
    assert np.isfinite(left_out.history[:-1, kept]).all()  # the last epoch is cut at step 20


def test_a_batch_without_kept_labels_only_decays(labels: LabelTable) -> None:
    """A gradient of 0 is still a step of AdamW: weights shrink by lr x decay."""
    model, calls = model_and_options(batch_size=1, steps=1, lr=1e-2, weight_decay=0.5)
    before = fits.state(model)
    first_row = int(np.random.default_rng([0, 0]).permutation(len(labels))[0])
    keep = np.stack([np.arange(len(labels)) == first_row, np.arange(len(labels)) != first_row])
    taught, untaught = (fits.state(f.model) for f in fit_many(model, labels, keep, **calls))
    for name, value in untaught.items():
        torch.testing.assert_close(value, before[name] * (1 - 1e-2 * 0.5))
    assert fits.largest_difference(taught, untaught) > 1e-3
    assert fits.largest_difference(fits.state(model), before) == 0  # the given model is unchanged


def test_pictures_are_encoded_once_for_all(
    labels: LabelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    original = Backbone.image_features

    def encode(self: Backbone, images: Any) -> Any:
        encoded.append(len(images))
        return original(self, images)

    monkeypatch.setattr(Backbone, "image_features", encode)
    together(labels, augment=True, epochs=2)
    assert sum(encoded) == 2 * len(labels)


@pytest.mark.parametrize("options", [{}, {"augment": True, "dropout": 0.2}])
def test_interrupted_and_resumed_is_undisturbed(
    labels: LabelTable,
    validation: LabelTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    """After Ctrl-C in the middle of a step, all candidates finish it."""
    options = {**options, "validation": validation}
    folders = {name: [tmp_path / name / str(k) for k in range(3)] for name in ("whole", "cut")}
    undisturbed = together(labels, folders["whole"], **options)
    interrupt_at(monkeypatch, 4, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        together(labels, folders["cut"], **options)
    saved = [torch.load(f / "checkpoint.pt", weights_only=True) for f in folders["cut"]]
    assert [state["step"] for state in saved] == [5, 5, 5]
    for one, other in zip(undisturbed, together(labels, folders["cut"], **options), strict=True):
        assert_same(one, other)


def test_candidates_at_different_steps_catch_up(
    labels: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the checkpoints of two candidates."""
    options: dict[str, Any] = {"checkpoint_steps": 2, "epochs": 4, "batch_size": 4}
    folders = [[tmp_path / name / str(k) for k in range(3)] for name in ("whole", "cut")]
    undisturbed = together(labels, folders[0], **options)
    original = Trainer.checkpoint

    def checkpoint(self: Trainer) -> None:
        if self.step == 8 and self.folder == folders[1][1]:
            raise MemoryError
        original(self)

    monkeypatch.setattr(Trainer, "checkpoint", checkpoint)
    with pytest.raises(MemoryError):
        together(labels, folders[1], **options)
    monkeypatch.undo()
    saved = [torch.load(f / "checkpoint.pt", weights_only=True)["step"] for f in folders[1]]
    assert saved == [8, 6, 6]
    for one, other in zip(undisturbed, together(labels, folders[1], **options), strict=True):
        assert_same(one, other)


@pytest.mark.slow
def test_a_killed_process_resumes(
    labels: LabelTable, validation: LabelTable, pictures: Path, tmp_path: Path
) -> None:
    """It is killed at some of its writes, and then runs to the end."""
    options: dict[str, Any] = {"epochs": 8, "checkpoint_steps": 2}
    cut = [tmp_path / "cut" / str(k) for k in range(3)]
    keep, outs = candidates(labels).tolist(), [str(folder) for folder in cut]
    codes = killed("support.fits:train_in", pictures, outs, keep, options, writes=WRITES)
    assert codes == [-9] * len(WRITES)
    options |= {"dropout": 0.2, "validation": validation}
    undisturbed = together(labels, [tmp_path / "whole" / str(k) for k in range(3)], **options)
    for one, other in zip(undisturbed, together(labels, cut, **options), strict=True):
        assert_same(one, other)
    written = [json.loads(line) for line in (cut[1] / "metrics.jsonl").read_text().splitlines()]
    assert written == undisturbed[1].metrics


def test_folders_are_those_of_separate_trainings(labels: LabelTable, tmp_path: Path) -> None:
    """`fit` finds the trainings of `fit_many` finished."""
    outs = [tmp_path / str(k) for k in range(3)]
    results = together(labels, outs, dropout=0.2)
    for out, kept, result in zip(outs, candidates(labels), results, strict=True):
        assert {p.name for p in out.iterdir()} == {
            "checkpoint.pt",
            "history.npy",
            "metrics.jsonl",
            "model",
        }
        model, calls = model_and_options(dropout=0.2)
        alone = fit(model, labels, weights=kept, out=out, **calls)
        assert fits.difference(alone.model, result.model) == 0


def test_rungs_leave_one_candidate_at_half_of_the_steps() -> None:
    assert [rungs(k, 1200) for k in (1, 2, 3, 5)] == [[], [600], [300, 600], [150, 300, 600]]
    assert rungs(8, 2) == [1]


def test_halving_drops_the_worse_and_leaves_the_best_alone(labels: LabelTable) -> None:
    """Three candidates over 40 steps: 3 to step 10, 2 to step 20, 1 to the end."""
    asked = []

    def judge(model: GroundingModel) -> float:
        asked.append(model)
        return float(len(asked) in (2, 3, 5))  # the second and third go on, then the third alone

    whole = together(labels, steps=40, dropout=0.2)
    halved = together(labels, steps=40, dropout=0.2, judge=judge)
    assert [result.steps for result in halved] == [10, 20, 40]
    assert len(asked) == 5
    assert fits.difference(whole[2].model, halved[2].model) == 0


def test_halving_resumes_with_its_decisions(
    labels: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(model: GroundingModel) -> float:
        return float(model.reg_token.weight.detach().sum())

    folders = [[tmp_path / name / str(k) for k in range(3)] for name in ("whole", "cut")]
    options: dict[str, Any] = {"steps": 40, "judge": judge, "checkpoint_steps": 3}
    undisturbed = together(labels, folders[0], **options)
    for step in (5, 14, 31):
        interrupt_at(monkeypatch, step, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            together(labels, folders[1], **options)
    for one, other in zip(undisturbed, together(labels, folders[1], **options), strict=True):
        assert_same(one, other)
        assert one.steps == other.steps


def test_the_learner_starts_all_from_one_model(labels: LabelTable) -> None:
    learner = GroundingLearner(fits.make_model, fits.QUICK, progress=False)
    start = fits.make_model(seed=9)
    many = learner.fit_many(labels, candidates(labels), init=start, seed=2)
    for kept, result in zip(candidates(labels), many, strict=True):
        alone = learner.fit(labels, weights=kept, init=start, seed=2)
        assert fits.difference(alone.model, result.model) == 0
    towers = {id(result.model.backbone) for result in many}
    assert len(towers) == 1  # not one copy of CLIP per candidate


@pytest.mark.parametrize(
    ("keep", "outs", "message"),
    [
        (np.ones(24, bool), None, "keep has shape"),
        (np.ones((2, 5), bool), None, "one per label"),
        (np.zeros((1, 24), bool), None, "weight 0"),
        (np.ones((2, 24), bool), ["one"], "1 folders for 2"),
    ],
)
def test_wrong_calls_are_refused(labels: LabelTable, keep: Any, outs: Any, message: str) -> None:
    model, calls = model_and_options()
    with pytest.raises(InputError, match=message):
        fit_many(model, labels, keep, outs=outs, **calls)
