"""Reliability of boxes in float64, from its definition, to check the operator against."""

from __future__ import annotations

import torch
from torch import Tensor


def true_reliability(pred: Tensor, target: Tensor, fmt: str) -> Tensor:
    """IoU (n, N) float64 of predictions (n, N, 4), clamped to the picture, with targets (N, 4)."""
    pred, target = pred.double(), target.double()
    if fmt == "cxcywh":
        pred, target = (
            torch.cat([box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2], -1)
            for box in (pred, target)
        )
    pred = pred.clamp(0, 1)
    low = torch.maximum(pred[..., :2], target[..., :2])
    high = torch.minimum(pred[..., 2:], target[..., 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (pred, target)]
    return inter / (areas[0] + areas[1] - inter + 1e-16)
