"""Gradient norm and update size against autograd."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from support.one_label import one_row, pair_iou
from support.tiny import make_labels, make_model

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.measures import GradientNorm, UpdateSize
from clipvg.measures.common.scales import halving
from clipvg.measures.gradient import Loss
from clipvg.model import GroundingModel
from clipvg.reliability import Context, measure
from clipvg.training.losses import box_losses


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    return make_labels(tmp_path_factory.mktemp("images"), images=2)


@pytest.fixture(scope="module")
def model() -> GroundingModel:
    return make_model(2)


def loss_of(box: torch.Tensor, target: torch.Tensor, loss: str) -> torch.Tensor:
    if loss == "training":
        return sum(box_losses(box, target)).mean()
    return 0.5 * (box - target).square().sum()


@pytest.mark.parametrize("loss", get_args(Loss))
def test_the_norm_is_that_of_the_last_layer(
    model: GroundingModel, labels: LabelTable, loss: str
) -> None:
    norms = []
    for row in range(len(labels)):
        *parts, target = one_row(model, labels, row)
        value = loss_of(model.head(model.fusion(*parts)), target, loss)
        last = model.head.layers[2]
        gradients = torch.autograd.grad(value, [last.weight, last.bias])
        norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
    found = measure(GradientNorm(model, loss=loss, scale=1.0), labels, Context()).values
    np.testing.assert_allclose(found, halving(norms, 1.0), rtol=1e-3, atol=1e-6)
    middle = np.median(measure(GradientNorm(model, loss=loss), labels, Context()).values)
    assert middle == pytest.approx(0.5, abs=0.1)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("loss", get_args(Loss))
def test_the_update_is_a_step_on_the_logits(
    model: GroundingModel, labels: LabelTable, loss: str
) -> None:
    found = measure(UpdateSize(model, loss=loss, step=0.3), labels, Context()).values
    for row in range(len(labels)):
        *parts, target = one_row(model, labels, row)
        with torch.no_grad():
            state = model.fusion(*parts)
        logits = model.head.logits(state).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss_of(logits.sigmoid(), target, loss), logits)
        moved = (logits - 0.3 * gradient).sigmoid().detach()[0]
        expected = pair_iou(logits.sigmoid().detach()[0], moved)
        assert found[row] == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("kind", [GradientNorm, UpdateSize])
def test_a_box_where_the_model_looks_pulls_less(
    model: GroundingModel, labels: LabelTable, kind: type
) -> None:
    own = np.stack(
        [
            model.predict(labels.image_path(name), [text])[0]
            for name, text in zip(labels.image_names, labels.expressions, strict=True)
        ]
    )
    options = {"scale": 1.0} if kind is GradientNorm else {}
    good = measure(kind(model, **options), labels.with_column("box", own), Context()).values
    assert (good > measure(kind(model, **options), labels, Context()).values).all()


def test_a_smaller_step_moves_less(model: GroundingModel, labels: LabelTable) -> None:
    small = measure(UpdateSize(model, step=1e-4), labels, Context()).values
    assert (small >= measure(UpdateSize(model, step=0.1), labels, Context()).values).all()
    assert small.min() > 0.9


def test_options_must_be_positive(model: GroundingModel) -> None:
    with pytest.raises(InputError, match="step is 0"):
        UpdateSize(model, step=0)
    with pytest.raises(InputError, match="scale is -1"):
        GradientNorm(model, scale=-1)
