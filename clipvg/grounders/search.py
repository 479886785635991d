"""The box that a heat map shows best: among given ones, or among all of a raster."""

from __future__ import annotations

import numpy as np

_RASTER = 32  # lines a side between which boxes are tried: 278,784 boxes


def best_box(
    heat: np.ndarray, size: tuple[int, int], alpha: float, boxes: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Return the box with the most heat for its area, and its share of all heat.

    A box is worth its heat / area^alpha: with 0 the whole image is best, with 1 the hottest spot.

    Args:
        heat: (h, w) from 0, a map of the whole image.
        size: width and height of the image in pixels.
        alpha: how much area costs, 0 to 1.
        boxes: (K, 4) xyxy pixels, to choose among; None tries all boxes of a raster.

    Returns:
        xyxy pixels (4,) float32, and a number in [0, 1].
    """
    total = np.zeros((heat.shape[0] + 1, heat.shape[1] + 1))
    total[1:, 1:] = heat.cumsum(0).cumsum(1)
    if boxes is None:
        boxes, inside = _of_raster(total)
        boxes = boxes * np.tile(size, 2)
    else:
        scale = np.array([heat.shape[1] / size[0], heat.shape[0] / size[1]] * 2)
        x1, y1, x2, y2 = (boxes * scale).T
        inside = _at(total, x2, y2) - _at(total, x1, y2) - _at(total, x2, y1) + _at(total, x1, y1)
    area = ((boxes[:, 2:] - boxes[:, :2]) / size).prod(1).clip(min=1e-12)
    best = int(np.argmax(inside.clip(min=0) / area**alpha))
    share = float(inside[best] / max(total[-1, -1], 1e-12))
    return boxes[best].astype(np.float32), min(max(share, 0.0), 1.0)


def _of_raster(total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all boxes (K, 4) between the lines of a raster, in the unit square, and their heat."""
    lines = np.linspace(0, 1, _RASTER + 1)
    x, y = np.meshgrid(lines * (total.shape[1] - 1), lines * (total.shape[0] - 1))
    at = _at(total, x, y)  # (lines, lines)
    low, high = np.triu_indices(_RASTER + 1, 1)
    across = at[:, high] - at[:, low]  # (lines, pairs)
    inside = across[high] - across[low]  # (pairs of y, pairs of x)
    down, right = (axis.reshape(-1) for axis in np.indices(inside.shape))
    corners = low[right], low[down], high[right], high[down]
    return lines[np.stack(corners, 1)], inside.reshape(-1)


def _at(total: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values of a summed map between its points."""
    x, y = x.clip(0, total.shape[1] - 1), y.clip(0, total.shape[0] - 1)
    left = x.astype(int).clip(max=total.shape[1] - 2)
    top = y.astype(int).clip(max=total.shape[0] - 2)
    right, down = x - left, y - top
    upper = total[top, left] * (1 - right) + total[top, left + 1] * right
    lower = total[top + 1, left] * (1 - right) + total[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down
