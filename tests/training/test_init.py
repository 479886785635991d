"""Calibrate projections once, at the first step, to act as on standardised features."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from support.fits import QUICK, make_labels, make_model

from clipvg.training import FeatureCache, fit
from clipvg.training.batches import standardise_projections

ONE_STEP = dataclasses.replace(QUICK, steps=1, lr=1e-12, weight_decay=0.0, standardise=True)


def test_outputs_are_those_of_standardised_features(tmp_path: Path) -> None:
    labels, model = make_labels(tmp_path)[0], make_model()
    batch = FeatureCache(model, labels).view(labels).batch(range(12))
    features = batch.image_features.flatten(0, 1)
    standard = (features - features.mean(0)) / features.std(0, correction=0)
    expected = model.visual_projection(standard).detach()
    standardise_projections(model, batch)
    torch.testing.assert_close(
        model.visual_projection(features).detach(), expected, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("cached", [True, False])
def test_fit_calibrates_fresh_projections_alone(tmp_path: Path, cached: bool) -> None:
    labels, model, plain = make_labels(tmp_path)[0], make_model(), make_model()
    config = dataclasses.replace(ONE_STEP, cache_features=cached)
    fit(model, labels, config=config, progress=False)
    assert not torch.allclose(model.visual_projection.weight, plain.visual_projection.weight)
    assert not torch.allclose(model.text_projection.weight, plain.text_projection.weight)
    torch.testing.assert_close(model.head.state_dict(), plain.head.state_dict())
    torch.testing.assert_close(model.fusion.state_dict(), plain.fusion.state_dict())


def test_a_resumed_training_is_not_calibrated_again(tmp_path: Path) -> None:
    labels, _ = make_labels(tmp_path / "pictures")
    config = dataclasses.replace(ONE_STEP, steps=6)
    whole = fit(make_model(), labels, config=config, progress=False).model
    out = tmp_path / "run"
    fit(make_model(), labels, config=config, out=out, progress=False)
    again = fit(make_model(), labels, config=config, out=out, progress=False).model
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
