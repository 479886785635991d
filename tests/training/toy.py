"""A tiny model and label set for the training tests; as a script, trainings in folders."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from clipvg.labels import LabelTable
from clipvg.model.grounder import GroundingModel
from clipvg.model.zoo import create_model
from clipvg.training import FitConfig, fit, fit_many

WORDS = "red green blue circle square ring bar on left right of".split()

# Small steps and no dropout: splitting a batch must then change nothing but rounding.
QUICK = FitConfig(epochs=3, batch_size=8, lr=1e-3, augment=False, schedule_by="step", clip_norm=1.0)


def make_labels(
    folder: Path, *, images: int = 8, per_image: int = 3, seed: int = 0, prefix: str = "p"
) -> LabelTable:
    """Noise pictures of several shapes with arbitrary boxes and expressions of 1 to 8 words."""
    rng = np.random.default_rng(seed)
    names, boxes, expressions = [], [], []
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(images):
        width, height = (int(side) for side in rng.integers(60, 140, 2))
        name = f"{prefix}{i}.png"
        pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        if not (folder / name).exists():
            Image.fromarray(pixels).save(folder / name)
        for _ in range(per_image):
            x, y = rng.integers(0, 30, 2)
            names.append(name)
            boxes.append([x, y, x + rng.integers(5, 30), y + rng.integers(5, 30)])
            expressions.append(" ".join(rng.choice(WORDS, rng.integers(1, 9))))
    return LabelTable.from_columns(image=names, expression=expressions, box=boxes, images=folder)


def make_model(seed: int = 0, **options: Any) -> GroundingModel:
    """Random towers (always the same) under a small random head."""
    torch.manual_seed(123)
    small = {"width": 16, "layers": 2, "heads": 2, "feedforward": 32, "dropout": 0.0}
    small |= {"levels": [1], "position_std": 0.02}
    model = create_model("clipvg-tiny", None, **small | options)
    torch.manual_seed(seed)
    fresh = {n: p for n, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for parameter in fresh.values():
            parameter.add_(torch.randn_like(parameter) * 0.01)
    return model


def state(model: GroundingModel) -> dict[str, torch.Tensor]:
    """Trainable tensors by name."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def largest_difference(
    a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], *, key_biases: bool = True
) -> float:
    """Largest difference of two states.

    Without `key_biases` those are left out: attention does not depend on them, so that their
    gradient is rounding noise, which AdamW scales up to whole steps.
    """
    largest = 0.0
    for name in a:
        x, y = a[name].clone(), b[name].clone()
        if not key_biases and name.endswith("in_proj_bias"):
            width = len(x) // 3
            x[width : 2 * width] = y[width : 2 * width]
        largest = max(largest, (x - y).abs().max().item())
    return largest


def main(settings: dict[str, Any]) -> None:
    """Train in `out`, or several in `outs`, with the given options."""
    torch.set_num_threads(1)
    labels = make_labels(Path(settings["images"]))
    validation = make_labels(Path(settings["images"]), seed=1, prefix="v")
    config = dataclasses.replace(QUICK, **settings["config"])
    model = make_model(dropout=0.2)
    options: dict[str, Any] = {"config": config, "validation": validation, "progress": False}
    if "outs" in settings:
        fit_many(model, labels, np.array(settings["keep"]), outs=settings["outs"], **options)
    else:
        fit(model, labels, out=settings["out"], **options)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
