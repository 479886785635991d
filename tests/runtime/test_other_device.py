"""Predict, evaluate, score and train on a device without float64, such as Apple's "mps"."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from support import fits, tiny
from support.other_device import There, other_device

from clipvg.labels import LabelTable
from clipvg.model.grounder import GroundingModel
from clipvg.rescoring import Engine, EngineConfig, Plan
from clipvg.training import evaluate, fit


@pytest.fixture
def labels(tmp_path: Path) -> LabelTable:
    return tiny.make_labels(tmp_path, 4, 3)


def there(model: GroundingModel, device: torch.device) -> GroundingModel:
    model = model.to(device)
    assert all(isinstance(p, There) for p in model.parameters())
    return model


def test_the_device_refuses_what_a_real_one_does() -> None:
    with other_device() as device:
        x = torch.ones(3, device=device)
        assert x.device == device
        assert (x.cpu() * 2).tolist() == [2, 2, 2]
        with pytest.raises(TypeError, match=r"no torch\.float64"):
            x.double()
        with pytest.raises(TypeError, match=r"no torch\.float64"):
            torch.zeros(3, dtype=torch.float64, device=device)
        with pytest.raises(RuntimeError, match="meet"):
            x + torch.ones(3)
        with pytest.raises((RuntimeError, TypeError)):
            x.numpy()


def test_predicting(labels: LabelTable) -> None:
    model, image = tiny.make_model(), labels.image_path(labels.image_names[0])
    expected = model.predict(image, ["red dog", "sky"]).boxes
    with other_device() as device:
        found = there(model, device).predict(image, ["red dog", "sky"]).boxes
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_evaluating(labels: LabelTable) -> None:
    model = tiny.make_model()
    expected = evaluate(model, labels)
    with other_device() as device:
        found = evaluate(there(model, device), labels)
    np.testing.assert_allclose(found.iou, expected.iou, atol=1e-4)


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_scoring(labels: LabelTable, precision: str) -> None:
    models = {name: tiny.make_model(seed) for seed, name in enumerate("ab")}
    config = EngineConfig(precision=precision)
    (expected,) = Engine(models, config).stream(Plan(labels))
    with other_device() as device:
        engine = Engine({n: there(m, device) for n, m in models.items()}, config)
        (found,) = engine.stream(Plan(labels))
    tolerance = 1e-4 if precision == "auto" else 0.1
    assert np.median(np.abs(found.scores - expected.scores)) < tolerance


@pytest.mark.parametrize("options", [{}, {"ema": 0.9}, {"augment": True}])
def test_training(tmp_path: Path, options: dict) -> None:
    labels, validation = fits.make_labels(tmp_path)
    config = dataclasses.replace(fits.QUICK, epochs=2, **options)
    expected = fit(fits.make_model(), labels, config=config, validation=validation, progress=False)
    with other_device() as device:
        model = there(fits.make_model(), device)
        found = fit(model, labels, config=config, validation=validation, progress=False)
    losses = [[line["loss"] for line in each.metrics] for each in (found, expected)]
    np.testing.assert_allclose(*losses, rtol=0.05 if options else 1e-3)
