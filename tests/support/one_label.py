"""Run a model on one label at a time, and make labels without pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipvg.data import load_square
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel
from clipvg.model.fusion import Features


def one_row(
    model: GroundingModel, labels: LabelTable, row: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return tokens (1, S, D), positions, kept tokens and the box (1, 4) cxcywh of one label."""
    preset = model.preset
    path = labels.image_path(labels.image_names[row])
    pixels, mask, letterbox = load_square(path, model.backbone.image_size, preset)
    ids, text_mask = model.tokenize([labels.expressions[row]])
    with torch.no_grad():
        parts = model.sequence(
            Features(
                model.encode_images(pixels[None]),
                model.patch_mask(mask[None]),
                model.encode_text(ids),
                text_mask,
            )
        )
    box = letterbox.to_square(labels.boxes(integer=preset.integer_boxes)[row])
    return *parts, torch.from_numpy(box)[None]


def predicted(model: GroundingModel, labels: LabelTable) -> Tensor:
    """Return the model's boxes (N, 4), computed one label at a time."""
    with torch.no_grad():
        rows = [one_row(model, labels, row)[:3] for row in range(len(labels))]
        return torch.cat([model.head(model.fusion(*row)) for row in rows])


def targets(model: GroundingModel, labels: LabelTable) -> Tensor:
    """Return the labels' boxes (N, 4), cxcywh in the letterboxed square."""
    return torch.cat([one_row(model, labels, row)[3] for row in range(len(labels))])


def pair_iou(a: Any, b: Any) -> float:
    """Return the IoU of two cxcywh boxes clamped to the square, in plain Python."""
    ax, ay, aw, ah = (float(v) for v in a)
    bx, by, bw, bh = (float(v) for v in b)
    a = np.clip([ax - aw / 2, ay - ah / 2, ax + aw / 2, ay + ah / 2], 0, 1)
    b = np.clip([bx - bw / 2, by - bh / 2, bx + bw / 2, by + bh / 2], 0, 1)
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / either if either > 0 else 0.0


def written(
    expressions: list[str], boxes: list[list[float]], images: list[str] | None = None, **more: Any
) -> LabelTable:
    """Return labels on pictures that need not exist."""
    names = images or ["a.jpg"] * len(expressions)
    return LabelTable.from_columns(image=names, expression=expressions, box=boxes, **more)
