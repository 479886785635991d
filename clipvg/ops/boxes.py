"""Overlap of boxes on tensors, elementwise; shapes that broadcast give it pairwise.

`clipvg.boxes` has the same on NumPy arrays. The operator `box_reliability` has an arithmetic of its
own, which stays exact for small boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clipvg.boxes import EPS


def intersection_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the areas (...) that boxes (..., 4) xyxy share, and cover together."""
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    intersection = area(sides.clamp(min=0))
    union = area(a[..., 2:] - a[..., :2]) + area(b[..., 2:] - b[..., :2]) - intersection
    return intersection, union


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU (...) of boxes (..., 4) xyxy, in [0, 1]; two empty boxes give 0."""
    intersection, union = intersection_and_union(a, b)
    return intersection / (union + EPS)


def area(sides: Tensor) -> Tensor:
    """Return the product (...) of two sides (..., 2)."""
    # prod(-1) would save an extra tensor and has a slower backward on two elements
    return sides[..., 0] * sides[..., 1]
