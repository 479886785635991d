"""The measurers of a benchmark: random heads on one backbone, or trained models."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from clipvg.labels import LabelTable
from clipvg.model import GroundingModel, create_model, load

POSITION_NOISE = 0.02  # standard deviation added to each measurer's visual position table
HEAD_NOISE = 0.02  # relative, added to the weights of further copies of a trained model


def make_measurers(
    n: int, backbone: str, preset: str, *, own_positions: bool, seed: int = 0
) -> dict[str, GroundingModel]:
    """Make n measurers with random heads over one frozen backbone.

    Args:
        n: number of measurers.
        backbone: as `create_model`; "clipvg-tiny" has its own weights, others random ones.
        preset: input rules.
        own_positions: each has its own visual position table, as the reference code trains them,
            so that no two share an image pass.
        seed: fixes the weights.
    """
    torch.manual_seed(seed)
    tag = "openai" if backbone == "clipvg-tiny" else None
    first = create_model(backbone, tag, preset=preset, train_visual_positions=own_positions)
    models = [first]
    for _ in range(1, n):
        towers = copy.deepcopy(first.backbone) if own_positions else first.backbone
        models.append(GroundingModel(first.config, towers))
    if own_positions:
        for model in models:
            _disturb_positions(model)
    return _named(models)


def load_measurers(
    paths: Sequence[str | Path], n: int, *, own_positions: bool, seed: int = 0
) -> dict[str, GroundingModel]:
    """Load trained measurers; where n is larger, further ones are disturbed copies of them."""
    torch.manual_seed(seed)
    models = [load(path) for path in paths]
    for i in range(len(models), n):
        model = copy.deepcopy(models[i % len(paths)])
        model.backbone = models[i % len(paths)].backbone
        with torch.no_grad():
            for module in (model.fusion, model.head):
                for weight in module.parameters():
                    weight += torch.randn_like(weight) * weight.std(correction=0) * HEAD_NOISE
        if own_positions:
            model.backbone = copy.deepcopy(model.backbone)
            _disturb_positions(model)
        models.append(model)
    return _named(models)


def typical_boxes(models: dict[str, GroundingModel], labels: LabelTable) -> np.ndarray:
    """Some boxes that the measurers predict, (m, 4) cxcywh in sides of the square."""
    names, image_of = labels.distinct_images()
    texts = labels.expressions
    found = []
    for model in models.values():
        for image in range(min(2, len(names))):
            rows = np.flatnonzero(image_of == image)[:8]
            path = labels.image_path(names[image])
            xyxy = model.predict(path, [texts[row] for row in rows]).astype(np.float64)
            width, height = labels.sizes()[rows[0]]
            scale = model.backbone.image_size / max(width, height)
            margin = (model.backbone.image_size - np.array([width, height]) * scale) / 2
            corners = (xyxy * scale + np.tile(margin, 2)) / model.backbone.image_size
            centre, extent = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
            found.append(np.concatenate([centre, np.maximum(extent, 0.02)], axis=1))
    return np.concatenate(found)


def _disturb_positions(model: GroundingModel) -> None:
    with torch.no_grad():
        table = model.backbone.clip.visual.positional_embedding
        table += POSITION_NOISE * torch.randn_like(table)


def _named(models: list[GroundingModel]) -> dict[str, GroundingModel]:
    return {f"measurer {i + 1}": model.eval() for i, model in enumerate(models)}
