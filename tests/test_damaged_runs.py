"""Run directories with a damaged file end like undisturbed ones, or the file is named."""

from __future__ import annotations

import dataclasses
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import fits, ledger, toy
from support.damage import DAMAGES, read_folder, spoil, spoil_each

import clipvg
from clipvg.api import Curriculum, RunOptions
from clipvg.curriculum import MSAConfig
from clipvg.labels import LabelTable
from clipvg.model import ModelOptions

pytestmark = pytest.mark.usefixtures("undrawn")


class _StoppedError(Exception):
    pass


def stop_after(learner: Any, trainings: int) -> Any:
    """Let a learner stop the run at the training that follows so many."""
    original, done = learner.fit, []

    def fit(*args: Any, **options: Any) -> Any:
        if len(done) == trainings:
            raise _StoppedError
        done.append(1)
        return original(*args, **options)

    learner.fit = fit
    return learner


@pytest.mark.parametrize("method", [toy, ledger], ids=["ssa", "msa"])
def test_damaged_files_of_a_curriculum(method: Any, tmp_path: Path) -> None:
    method.adapt(tmp_path / "whole")
    ends = spoil_each(
        tmp_path / "whole", method.adapt, tmp_path / "whole", ["cut to a third"], one_of_a_kind=True
    )
    assert ends["named"] == 1  # config.yaml, which identifies the run
    assert ends["alike"] > 8


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["stage.json", "stage.copy.json"])
def test_a_damaged_record_costs_no_training(tmp_path: Path, name: str, damage: str) -> None:
    toy.adapt(tmp_path)
    whole = read_folder(tmp_path)
    for path in tmp_path.glob(f"stages/*/{name}"):
        spoil(path, damage)
    learner = toy.ToyLearner()
    with pytest.warns(UserWarning, match=f"{name} was damaged; it is written again"):
        toy.adapt(tmp_path, learner=learner)
    assert not learner.trained
    assert read_folder(tmp_path) == whole


@pytest.mark.slow
@pytest.mark.parametrize("method", [toy, ledger], ids=["ssa", "msa"])
def test_all_damages_to_a_curriculum(method: Any, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    method.adapt(whole)
    learner = method.ToyLearner() if method is toy else method.LedgerLearner()
    with pytest.raises(_StoppedError):
        method.adapt(cut, learner=stop_after(learner, 3))
    for folder in (whole, cut):
        ends = spoil_each(folder, method.adapt, whole)
        print(f"{folder.name}: {dict(ends)}")
        assert ends["named"] <= len(DAMAGES)  # config.yaml


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    return fits.make_labels(tmp_path_factory.mktemp("pictures"))[0]


def train(out: Path, labels: LabelTable, **options: Any) -> None:
    training = dataclasses.replace(fits.QUICK, **options)
    clipvg.train(
        labels,
        out=out,
        validation=labels,
        backbone="clipvg-tiny",
        model=_MODEL,
        training=training,
        run=RunOptions(progress=False),
    )


def adapt(out: Path, labels: LabelTable) -> None:
    clipvg.adapt(
        labels,
        out=out,
        validation=labels,
        backbone="clipvg-tiny",
        model=_MODEL,
        training=fits.QUICK,
        curriculum=Curriculum(search=MSAConfig(start=0.2)),
        run=RunOptions(progress=False),
    )


_MODEL = ModelOptions(pretrained=None, width=16, layers=1, heads=2, feedforward=16)


def test_damaged_files_of_a_training(labels: LabelTable, tmp_path: Path) -> None:
    again = partial(train, labels=labels)
    again(tmp_path / "whole")
    ends = spoil_each(tmp_path / "whole", again, tmp_path / "whole", ["noise"])
    assert ends == {"named": 2, "alike": 8}  # config.yaml and history.npy


@pytest.mark.slow
def test_all_damages_to_a_training(labels: LabelTable, tmp_path: Path) -> None:
    again = partial(train, labels=labels)
    again(tmp_path / "whole")
    print(dict(spoil_each(tmp_path / "whole", again, tmp_path / "whole")))


@pytest.mark.slow
@pytest.mark.parametrize("sources", [1, 2], ids=["ssa", "msa"])
def test_all_damages_to_an_adapted_model(
    labels: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: int
) -> None:
    """Damage a run that was killed in a training, whose files are still there."""
    names = [f"s{row % sources}" for row in range(len(labels))]
    again = partial(adapt, labels=labels.with_column("source", names))
    again(tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_in_training(patch, number=3)
        with pytest.raises(_StoppedError):
            again(tmp_path / "cut")
    assert list((tmp_path / "cut").rglob("checkpoint.pt"))
    ends = spoil_each(tmp_path / "cut", again, tmp_path / "whole")
    print(f"{sources} sources: {dict(ends)}")
    shutil.rmtree(tmp_path)


def stop_in_training(patch: pytest.MonkeyPatch, number: int) -> None:
    """Stop a run in the middle of its n-th training."""
    from clipvg.training.trainer import Trainer

    original, begun = Trainer.update, []

    def update(self: Any, loaded: Any) -> None:
        begun.extend([1] if self.step == 0 else [])
        if len(begun) == number and self.step == self.per_epoch + 1:
            raise _StoppedError
        original(self, loaded)

    patch.setattr(Trainer, "update", update)
