"""The teacher: an exponential moving average of the weights."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import fits

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.training import Fit, FitConfig, fit, fit_many
from clipvg.training import trainer as trainer_module

TEACHING = dataclasses.replace(fits.QUICK, ema=0.5)


def train(labels: LabelTable, config: FitConfig = TEACHING, **options: Any) -> Fit:
    return fit(fits.make_model(), labels, config=config, progress=False, **options)


def test_it_is_the_exponential_mean_of_the_weights_of_each_step(
    labels: LabelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[dict[str, torch.Tensor]] = []
    original = trainer_module.Trainer.update

    def update(self: Any, loaded: Any) -> None:
        original(self, loaded)
        states.append({name: value.clone() for name, value in fits.state(self.model).items()})

    monkeypatch.setattr(trainer_module.Trainer, "update", update)
    teacher = train(labels).teacher
    expected = fits.state(fits.make_model())
    for step, state in enumerate(states, 1):
        decay = min(0.5, step / (step + 9))
        expected = {n: decay * expected[n] + (1 - decay) * value for n, value in state.items()}
    assert len(states) == 9
    assert fits.largest_difference(fits.state(teacher), expected) < 1e-6
    assert not teacher.training


def test_without_it_nothing_changes(labels: LabelTable) -> None:
    plain, taught = train(labels, fits.QUICK), train(labels)
    assert plain.teacher is None
    assert "ema" not in fits.QUICK.identity()
    assert TEACHING.identity()["ema"] == 0.5
    assert fits.difference(plain.model, taught.model) == 0
    with pytest.raises(InputError, match="ema is 1"):
        FitConfig(ema=1)


def test_interrupted_and_resumed_it_is_the_same(
    labels: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train(labels)
    original = trainer_module.Trainer.update

    def update(self: Any, loaded: Any) -> None:
        if self.step == 4:
            monkeypatch.setattr(trainer_module.Trainer, "update", original)
            signal.raise_signal(signal.SIGINT)
        original(self, loaded)

    monkeypatch.setattr(trainer_module.Trainer, "update", update)
    with pytest.raises(KeyboardInterrupt):
        train(labels, out=tmp_path)
    for _ in range(2):  # first resumed, then read as finished
        again = train(labels, out=tmp_path)
        assert fits.difference(undisturbed.teacher, again.teacher) == 0


def test_each_candidate_has_its_own(labels: LabelTable) -> None:
    keep = np.stack([np.arange(len(labels)) % 2 == 0, np.ones(len(labels), bool)])
    together = fit_many(fits.make_model(), labels, keep, config=TEACHING, progress=False)
    for fitted, weights in zip(together, keep, strict=True):
        alone = train(labels, weights=weights).teacher
        assert fits.difference(fitted.teacher, alone) < 1e-5
