"""From predicted boxes to reliability and its histogram."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert

from clipvg.ops import box_reliability
from clipvg.ops.box_reliability.checks import EPS


def score_boxes(
    predicted: Tensor, target: Tensor, group: Tensor, num_groups: int, bins: int, *, fused: bool
) -> tuple[Tensor, Tensor]:
    """IoU of n measurers' boxes with the labels', and its histogram by group of labels.

    Args:
        predicted: (n, B, 4) float32 cxcywh in [0, 1], finite.
        target: (B, 4) float32 cxcywh.
        group: (B,) int64 in [0, num_groups).
        num_groups: number of groups.
        bins: bins of the histogram over [0, 1].
        fused: all in one operator; else in passes of their own, measurer by measurer.

    Returns:
        IoU (n, B) float32 and counts (n, num_groups, bins) int64.
    """
    if fused:
        return box_reliability(predicted, target, group=group, num_groups=num_groups, bins=bins)
    wanted = box_convert(target, "cxcywh", "xyxy")
    rows, counts = [], []
    for boxes in predicted:
        found = box_convert(boxes, "cxcywh", "xyxy").clamp(0, 1)
        low = torch.maximum(found[:, :2], wanted[:, :2])
        high = torch.minimum(found[:, 2:], wanted[:, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        areas = [(box[:, 2:] - box[:, :2]).prod(1) for box in (found, wanted)]
        iou = shared / (areas[0] + areas[1] - shared + EPS)
        cell = (iou * bins).long().clamp(max=bins - 1) + group * bins
        rows.append(iou)
        counts.append(torch.bincount(cell, minlength=num_groups * bins).view(num_groups, bins))
    return torch.stack(rows), torch.stack(counts)
