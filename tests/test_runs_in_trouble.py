"""Runs on disks that fill up, in folders that vanish, and under clocks that jump.

Each ends with one line that says what to do; the same command then ends like an undisturbed run.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tqdm.std
from support import fits, toy
from support.damage import DAMAGES, read_folder, spoil

import clipvg
from clipvg.api import RunOptions
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.model import ModelOptions
from clipvg.pseudo import Detection, Observation, ObservationTable
from clipvg.pseudo.generate import generate
from clipvg.reliability import score_labels
from clipvg.rescoring import plan
from clipvg.rescoring.store import ScoreStore
from clipvg.runs import Run
from clipvg.runtime import files
from clipvg.training.trainer import Trainer

_MODEL = ModelOptions(pretrained=None, width=16, layers=1, heads=2, feedforward=16)
_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
_READ_ONLY = OSError(errno.EROFS, os.strerror(errno.EROFS))


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    return fits.make_labels(tmp_path_factory.mktemp("pictures"))[0]


def train(out: Path, labels: LabelTable) -> None:
    clipvg.train(
        labels,
        out=out,
        validation=labels,
        backbone="clipvg-tiny",
        model=_MODEL,
        training=dataclasses.replace(fits.QUICK, epochs=2),
        run=RunOptions(progress=False, report=False),
    )


def alike(folder: Path, whole: Path) -> bool:
    found, wanted = read_folder(folder), read_folder(whole)
    return found.keys() == wanted.keys() and all(found[name] == wanted[name] for name in wanted)


def fail_at(patch: pytest.MonkeyPatch, write: int, error: OSError) -> list[int]:
    """Let the n-th write of a file and all later ones fail as on a full disk; return the count."""
    flush, count = files._flush, [0]

    def failing(path: Path) -> None:
        count[0] += path.is_file()
        if count[0] >= write:
            raise OSError(*error.args)
        flush(path)

    patch.setattr(files, "_flush", failing)
    return count


def check_failing_writes(
    again: Callable[[Path], object], tmp_path: Path, error: OSError, every: int
) -> None:
    """Let a run fail at every n-th of its writes, and then continue it."""
    with pytest.MonkeyPatch.context() as patch:
        count = fail_at(patch, 10**9, error)
        again(tmp_path / "whole")
    writes = range(1, count[0] + 1, every)
    assert len(writes) >= 3
    for write in writes:
        folder = tmp_path / f"cut-{write}"
        with pytest.MonkeyPatch.context() as patch:
            fail_at(patch, write, error)
            with pytest.raises(OSError, match=error.strerror) as caught:
                again(folder)
        assert str(caught.value.filename).startswith(str(tmp_path)), write
        again(folder)
        assert alike(folder, tmp_path / "whole"), write
        assert not list(folder.rglob(".*.tmp*"))
        shutil.rmtree(folder)


@pytest.mark.parametrize("error", [_FULL, _READ_ONLY], ids=["full", "read-only"])
def test_a_disk_that_takes_no_more_during_a_search(tmp_path: Path, error: OSError) -> None:
    check_failing_writes(toy.adapt, tmp_path, error, every=11)


def test_a_disk_that_takes_no_more_during_a_training(labels: LabelTable, tmp_path: Path) -> None:
    check_failing_writes(lambda out: train(out, labels), tmp_path, _FULL, every=5)


@pytest.mark.parametrize("step", [1, 3])
def test_the_folder_of_a_training_vanishes(
    labels: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    train(tmp_path / "whole", labels)
    update = Trainer.update

    def vanishing(self: Trainer, loaded: Any) -> None:
        if self.step == step:
            shutil.rmtree(tmp_path / "cut")
        update(self, loaded)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", vanishing)
        with pytest.raises(InputError, match="cut was removed while it was written to"):
            train(tmp_path / "cut", labels)
    train(tmp_path / "cut", labels)
    assert alike(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("training", [1, 3])
def test_the_folder_of_a_search_vanishes(tmp_path: Path, training: int) -> None:
    class Vanishing(toy.ToyLearner):
        def fit(self, *args: Any, **options: Any) -> Any:
            if len(self.trained) == training:
                shutil.rmtree(tmp_path / "cut")
            return super().fit(*args, **options)

    toy.adapt(tmp_path / "whole")
    with pytest.raises(InputError, match="cut was removed while it was written to"):
        toy.adapt(tmp_path / "cut", learner=Vanishing())
    toy.adapt(tmp_path / "cut")
    assert alike(tmp_path / "cut", tmp_path / "whole")


def test_the_store_of_scores_vanishes(
    labels: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores are also in memory, so nothing is lost."""
    models = {"a": fits.make_model()}
    monkeypatch.setattr(plan, "IMAGES_PER_SHARD", 2)
    whole = score_labels(labels, models)
    write = ScoreStore.write

    def vanishing(self: ScoreStore, *args: Any) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        write(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(ScoreStore, "write", vanishing)
        found = score_labels(labels, models, store=tmp_path / "store")
    np.testing.assert_array_equal(found.scores, whole.scores)
    again = score_labels(labels, models, store=tmp_path / "store")
    np.testing.assert_array_equal(again.scores, whole.scores)


@pytest.mark.parametrize("damage", DAMAGES)
def test_candidates_of_a_stopped_call_are_damaged(tmp_path: Path, damage: str) -> None:
    seen = Observation("a.jpg", 600, 400, (Detection("cat", (10, 20, 300, 400), 0.9),))
    observations = ObservationTable.from_observations([seen])
    whole = generate(observations, store=tmp_path / "parts")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    for path in files:
        spoil(path, damage)
    with pytest.warns(UserWarning, match="is damaged; it is made again"):
        found = generate(observations, store=tmp_path / "parts")
    assert found.table.equals(whole.table)


def test_a_clock_that_jumps(
    labels: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "whole", labels)
    toy.adapt(tmp_path / "search")
    now, jumps = time.time, cycle([0, 10**6, -(10**7), 3600, -3600])
    jumping = lambda: now() + next(jumps)  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", jumping)
        patch.setattr(tqdm.std, "time", jumping)
        train(tmp_path / "train", labels)
        toy.adapt(tmp_path / "adapt")
    assert alike(tmp_path / "train", tmp_path / "whole")
    assert alike(tmp_path / "adapt", tmp_path / "search")


@pytest.mark.parametrize("when", [0, 2**33, -(2**33), 2**52])
def test_files_of_another_time_are_taken(labels: LabelTable, tmp_path: Path, when: int) -> None:
    """Dates do not matter: what a run with a wrong clock wrote is read as it is."""
    toy.adapt(tmp_path / "run")
    before = read_folder(tmp_path / "run")
    for path in (tmp_path / "run").rglob("*"):
        try:
            os.utime(path, (when, when))
        except OverflowError:
            pytest.skip("no file can have that date here")
    learner = toy.ToyLearner()
    toy.adapt(tmp_path / "run", learner=learner)
    assert not learner.trained
    assert read_folder(tmp_path / "run") == before


def test_a_date_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.adapt(tmp_path)
    identity = {"config": {"ssa": {}}, "labels": toy.make_labels(), "validation": None}
    for error in (OverflowError, ValueError, OSError):
        with monkeypatch.context() as patch, Run(tmp_path, **identity) as run:
            patch.setattr(time, "localtime", lambda _, error=error: (_ for _ in ()).throw(error))
            assert run.state() == f"{tmp_path}: finished"
