"""Smaller copies of an image in the corners of its square: a sure model finds the same box in all.

The measure `confidence` and the scores of checkpoints without a quality head are made of them.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.ops.boxes import overlap

# Corner that the smaller copy of the image goes to: (x, y) in {0, 1}.
CORNERS = ((0, 0), (1, 1), (1, 0), (0, 1))
ZOOM = 0.875  # of the copies


def move_into_corner(
    pixels: Tensor, mask: Tensor, zoom: float, corner: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Shrink squares and put them into a corner of the square.

    Args:
        pixels: (U, 3, S, S), zero where there is padding.
        mask: (U, S, S) bool, True where there is padding.
        zoom: size of the copy.
        corner: (0, 0) top left, (1, 0) top right, (0, 1) bottom left, (1, 1) bottom right.

    Returns:
        Pixels and mask of the same shapes; around the copy there is padding.
    """
    # affine_grid maps output to input coordinates in [-1, 1]: in = out / zoom + shift
    shift = [(1 - 2 * side) * (1 / zoom - 1) for side in corner]
    matrix = torch.tensor([[1 / zoom, 0, shift[0]], [0, 1 / zoom, shift[1]]])
    grid = F.affine_grid(
        matrix.expand(len(pixels), -1, -1), list(pixels.shape), align_corners=False
    )
    shown = (~mask).float()[:, None]
    shown = F.grid_sample(shown, grid, mode="nearest", align_corners=False)
    smaller = F.grid_sample(pixels, grid, mode="bilinear", align_corners=False)
    return smaller * shown, shown[:, 0] < 0.5


def carried_back(boxes: Tensor, zoom: float, corner: tuple[int, int]) -> Tensor:
    """Return boxes (B, 4) cxcywh found in copies as boxes of the image as it is."""
    moved = torch.tensor(corner, device=boxes.device) * (1 - zoom)
    return torch.cat([boxes[:, :2] - moved, boxes[:, 2:]], dim=1) / zoom


def mean_overlap(boxes: Tensor) -> Tensor:
    """Return the mean IoU over all pairs of n boxes (n, B, 4) cxcywh of each label, (B,)."""
    pairs = [overlap(boxes[i], boxes[j]) for i, j in combinations(range(len(boxes)), 2)]
    return torch.stack(pairs).mean(0)
