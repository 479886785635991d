"""Small trainings: their labels, models and options, and how far results differ."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipvg.labels import LabelTable
from clipvg.model.grounder import GroundingModel
from clipvg.training import FitConfig, fit, fit_many
from support import tiny

# Small steps and no dropout: splitting a batch must then change nothing but rounding.
QUICK = FitConfig(epochs=3, batch_size=8, lr=1e-3, augment=False, schedule_by="step", clip_norm=1.0)


def make_labels(folder: Path) -> tuple[LabelTable, LabelTable]:
    """24 labels on 8 images, and 24 validation labels on 8 others."""
    return (
        tiny.make_labels(folder, 8, 3),
        tiny.make_labels(folder, 8, 3, seed=1, prefix="v"),
    )


def make_model(seed: int = 0, **options: Any) -> GroundingModel:
    """Return random towers (always the same) under a small head that depends on the seed."""
    small = {"width": 16, "layers": 2, "heads": 2, "feedforward": 32, "dropout": 0.0}
    small |= {"levels": [1], "position_std": 0.02}
    model = tiny.untrained(123, **small | options)
    torch.manual_seed(seed)
    fresh = {n: p for n, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for parameter in fresh.values():
            parameter.add_(torch.randn_like(parameter) * 0.01)
    return model


def state(model: GroundingModel) -> dict[str, torch.Tensor]:
    """Return copies of the trainable tensors by name."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def largest_difference(
    a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], *, key_biases: bool = True
) -> float:
    """Return the largest difference of two states.

    Without `key_biases`, the biases of keys are left out: attention does not depend on them, so
    their gradient is rounding noise, which AdamW scales up to whole steps.
    """
    largest = 0.0
    for name in a:
        x, y = a[name].clone(), b[name].clone()
        if not key_biases and name.endswith("in_proj_bias"):
            width = len(x) // 3
            x[width : 2 * width] = y[width : 2 * width]
        largest = max(largest, (x - y).abs().max().item())
    return largest


def difference(a: GroundingModel, b: GroundingModel, *, key_biases: bool = True) -> float:
    """Return the largest difference of the trainable tensors of two models."""
    return largest_difference(state(a), state(b), key_biases=key_biases)


def train_in(images: str, outs: list[str], keep: list[list[bool]], options: dict[str, Any]) -> None:
    """Train one model in the first folder, or one for each row of `keep`, each in its own."""
    torch.set_num_threads(1)
    labels, validation = make_labels(Path(images))
    config = dataclasses.replace(QUICK, **options)
    shared: dict[str, Any] = {"config": config, "validation": validation, "progress": False}
    model = make_model(dropout=0.2)
    if keep:
        fit_many(model, labels, np.array(keep), outs=outs, **shared)
    else:
        fit(model, labels, out=outs[0], **shared)
