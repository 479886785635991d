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

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.model.zoo import load
from clipvg.runtime.distributed import World
from clipvg.training import Fit, fit
from clipvg.training import trainer as trainer_module
from clipvg.training.loop import Interrupt

# The write at which a training is killed, for each time it is started.
WRITES = [1, 2, 5, 9]


def train(labels: LabelTable, out: Path | None, **options: Any) -> Fit:
    validation, dropout = options.pop("validation", None), options.pop("dropout", 0.2)
    config = dataclasses.replace(fits.QUICK, **options)
    model = fits.make_model(dropout=dropout)
    return fit(model, labels, config=config, validation=validation, out=out, progress=False)


def assert_same(first: Fit, second: Fit) -> None:
    assert fits.difference(first.model, second.model) == 0
    assert first.metrics == second.metrics
    assert first.best == second.best
    np.testing.assert_array_equal(first.history, second.history)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, how: Any) -> None:
    """Call `how` once, before the given step."""
    original = trainer_module.Trainer.update

    def update(self: Any, loaded: Any) -> None:
        if self.step == step:
            monkeypatch.setattr(trainer_module.Trainer, "update", original)
            how()
        original(self, loaded)

    monkeypatch.setattr(trainer_module.Trainer, "update", update)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"augment": True},
        {"augment": True, "group_by_image": 2},
        {"accumulate": 2, "batch_size": 4},
    ],
)
def test_interrupted_and_resumed_is_undisturbed(
    labels: LabelTable,
    validation: LabelTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    options = {**options, "validation": validation}
    undisturbed = train(labels, tmp_path / "whole", **options)
    interrupt_at(monkeypatch, 4, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(labels, tmp_path / "cut", **options)
    saved = torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 5  # the step under way was finished
    resumed = train(labels, tmp_path / "cut", **options)
    assert_same(undisturbed, resumed)
    texts = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut")]
    assert texts[0] == texts[1]


def test_features_that_did_not_fit_at_first_are_done_without_after_a_restart(
    labels: LabelTable, validation: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without the cache, boxes are the same but for their last bits."""
    options = {"validation": validation, "cache_bytes": 1000}
    with pytest.warns(UserWarning, match="encoded again in every epoch"):
        undisturbed = train(labels, tmp_path / "whole", **options)
    interrupt_at(monkeypatch, 4, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.warns(UserWarning, match="above the limit"), pytest.raises(KeyboardInterrupt):
        train(labels, tmp_path / "cut", **options)
    with pytest.warns(UserWarning, match="did not fit when this training began"):
        assert_same(undisturbed, train(labels, tmp_path / "cut", validation=validation))
    train(labels, tmp_path / "cut", validation=validation, cache_features=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_stop_as_ctrl_c_does(
    labels: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class _EndedError(Exception):
        pass

    def end(*_: object) -> None:
        raise _EndedError

    before = signal.signal(number, end)
    interrupt_at(monkeypatch, 4, lambda: signal.raise_signal(number))
    try:
        with pytest.raises(_EndedError):
            train(labels, tmp_path)
    finally:
        signal.signal(number, before)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 5


def test_an_ignored_signal_stays_so(labels: LabelTable, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    interrupt_at(monkeypatch, 4, lambda: signal.raise_signal(signal.SIGHUP))
    try:
        assert train(labels, None).steps > 5
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_are_handled_as_before_afterwards(labels: LabelTable) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(labels, None)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_crash_inside_an_epoch_repeats_from_the_last_checkpoint(
    labels: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train(labels, tmp_path / "whole", checkpoint_steps=2)

    def crash() -> None:
        raise MemoryError

    interrupt_at(monkeypatch, 5, crash)
    with pytest.raises(MemoryError):
        train(labels, tmp_path / "cut", checkpoint_steps=2)
    assert torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)["step"] == 4
    assert_same(undisturbed, train(labels, tmp_path / "cut", checkpoint_steps=2))


def test_a_killed_process_resumes(
    labels: LabelTable, validation: LabelTable, pictures: Path, tmp_path: Path
) -> None:
    """It is killed at some of its writes, and then runs to the end."""
    options = {"epochs": 8, "checkpoint_steps": 2}
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    codes = killed("support.fits:train_in", pictures, [str(cut)], [], options, writes=WRITES)
    assert codes == [-9] * len(WRITES)
    undisturbed = train(labels, whole, validation=validation, **options)
    assert_same(undisturbed, train(labels, cut, validation=validation, **options))
    written = [json.loads(line) for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in written] == list(range(1, 9))
    assert written == undisturbed.metrics


def test_a_finished_training_is_read_not_repeated(
    labels: LabelTable, validation: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(labels, tmp_path, validation=validation)
    interrupt_at(monkeypatch, 0, lambda: pytest.fail("it trained again"))
    assert_same(first, train(labels, tmp_path, validation=validation))


def test_the_folder_holds_the_model(labels: LabelTable, tmp_path: Path) -> None:
    result = train(labels, tmp_path)
    loaded = load(tmp_path / "model")
    assert fits.difference(result.model, loaded) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"checkpoint.pt", "history.npy", "metrics.jsonl", "model"}


def test_another_training_is_not_continued(labels: LabelTable, tmp_path: Path) -> None:
    train(labels, tmp_path)
    with pytest.raises(InputError, match=r"lr was 0\.001, is 0\.5"):
        train(labels, tmp_path, lr=0.5)
    with pytest.raises(InputError, match="labels was"):
        train(labels.select(np.arange(20)), tmp_path)


def test_how_the_batch_is_split_may_change(labels: LabelTable, tmp_path: Path) -> None:
    train(labels, tmp_path, num_workers=0)
    train(labels, tmp_path, batch_size=4, accumulate=2, num_workers=1)


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "changed"])
def test_a_damaged_checkpoint_is_named_and_the_training_starts_anew(
    labels: LabelTable, validation: LabelTable, tmp_path: Path, damage: str
) -> None:
    first = train(labels, tmp_path, validation=validation)
    path = tmp_path / "checkpoint.pt"
    spoil(path, damage)
    with pytest.warns(UserWarning, match=f"{path} is damaged; the training starts anew"):
        assert_same(first, train(labels, tmp_path, validation=validation))


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "changed"])
def test_damaged_losses_are_named_with_the_remedy(
    labels: LabelTable, tmp_path: Path, damage: str
) -> None:
    first = train(labels, tmp_path)
    path = tmp_path / "history.npy"
    spoil(path, damage)
    with pytest.raises(InputError, match=f"{path} is damaged.*Delete it"):
        train(labels, tmp_path)
    path.unlink()
    with pytest.warns(UserWarning, match="earlier epochs have no losses"):
        again = train(labels, tmp_path)
    assert again.metrics == first.metrics
    assert np.isnan(again.history).all()


def test_losses_cut_while_a_training_goes_on(
    labels: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, 4, lambda: spoil(tmp_path / "history.npy", "cut"))
    with pytest.raises(InputError, match="is damaged"):
        train(labels, tmp_path)


def spoil(path: Path, damage: str) -> None:
    """Cut a file to a third, empty it, replace it by noise, or change bytes in it."""
    content = path.read_bytes()
    noise = np.random.default_rng(0).bytes(len(content))
    middle = 2 * len(content) // 3
    changed = bytes(byte ^ 1 for byte in content[middle : middle + 200])
    path.write_bytes(
        {
            "cut": content[: len(content) // 3],
            "empty": b"",
            "noise": noise,
            "changed": content[:middle] + changed + content[middle + 200 :],
        }[damage]
    )


def test_a_signal_after_the_last_check_is_not_lost() -> None:
    def stop_late() -> None:
        with Interrupt(World()) as interrupt:
            assert not interrupt.requested(1)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        stop_late()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
