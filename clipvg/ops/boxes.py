"""IoU of boxes on tensors, elementwise; shapes that broadcast give it pairwise.

`clipvg.boxes` has the same for NumPy arrays. Half precision is computed in float32, where areas in
pixels do not overflow. The operator `box_reliability` has its own arithmetic, which stays exact for
small boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert

from clipvg.boxes import EPS


def shared_sides(a: Tensor, b: Tensor) -> Tensor:
    """Return the sides (..., 2) of the intersection of boxes (..., 4) xyxy; negative if apart."""
    return torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])


def union_area(a: Tensor, b: Tensor, intersection: Tensor) -> Tensor:
    """Return the area (...) of the union of boxes (..., 4) xyxy, given that of the intersection."""
    return area(a[..., 2:] - a[..., :2]) + area(b[..., 2:] - b[..., :2]) - intersection


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU (...) of boxes (..., 4) xyxy, in [0, 1]; two empty boxes give 0.

    Boxes in float16, bfloat16 or integers give float32.
    """
    a, b = (x if x.dtype in (torch.float32, torch.float64) else x.float() for x in (a, b))
    intersection = area(shared_sides(a, b).clamp(min=0))
    return intersection / (union_area(a, b, intersection) + EPS)


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU (...) of boxes (..., 4) cxcywh, normalised to a square and clamped to it."""
    a, b = (box_convert(boxes, "cxcywh", "xyxy").clamp(0, 1) for boxes in (a, b))
    return iou(a, b)


def area(sides: Tensor) -> Tensor:
    """Return the product (...) of two sides (..., 2)."""
    # prod(-1) would save an extra tensor and has a slower backward on two elements
    return sides[..., 0] * sides[..., 1]
