"""Boxes against patches, on tensors; boxes are cxcywh in sides of the square."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert


def patch_coverage(boxes: Tensor, grid: int) -> Tensor:
    """Share of each patch that lies inside a box.

    Args:
        boxes (Tensor[B, 4]): cxcywh in sides of the square.
        grid: patches per side.

    Returns:
        Tensor[B, P] in [0, 1], patches row by row.
    """
    corners = box_convert(boxes, "cxcywh", "xyxy") * grid  # (B, 4) in patches
    first = torch.arange(grid, device=boxes.device, dtype=boxes.dtype)
    low, high = corners[:, :2, None], corners[:, 2:, None]
    share = (torch.minimum(high, first + 1) - torch.maximum(low, first)).clamp(0, 1)  # (B, 2, G)
    return (share[:, 1, :, None] * share[:, 0, None, :]).flatten(1)
