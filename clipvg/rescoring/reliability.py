"""Reliability of predicted boxes and its histogram by source: the last step of a pass."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clipvg.ops import box_reliability
from clipvg.similarity import IOU, compare_in_square


def score_boxes(
    predicted: Tensor,
    target: Tensor,
    *,
    group: Tensor,
    num_groups: int,
    bins: int,
    similarity: str,
) -> tuple[Tensor, Tensor]:
    """Return reliability (n, R) and its histogram (n, num_groups, bins).

    IoU runs where the boxes are, as one operator; any other similarity is NumPy's.

    Args:
        predicted: (n, R, 4) cxcywh in the square.
        target: (R, 4), the same of the labels.
        group: (R,) int64.
        num_groups: number of groups.
        bins: of the histogram.
        similarity: name, see `clipvg.similarity`.
    """
    if similarity == IOU:
        return box_reliability(predicted, target, group=group, num_groups=num_groups, bins=bins)
    boxes, given, place = predicted.float().cpu().numpy(), target.float().cpu().numpy(), group.cpu()
    found = np.stack([compare_in_square(similarity, each, given) for each in boxes])
    cell = np.minimum((found * np.float32(bins)).astype(np.int64), bins - 1)
    cell += bins * place.numpy()
    counts = np.stack([np.bincount(row, minlength=num_groups * bins) for row in cell])
    counts = counts.reshape(len(found), num_groups, bins)
    return torch.from_numpy(found), torch.from_numpy(counts).to(predicted.device)
