"""Superpixels: an image in patches of like colour, SLIC of Achanta et al. (TPAMI 2012) in NumPy.

Scikit-image has the same with more options; here each pixel chooses among the nine centres about
it, in RGB, without making patches whole afterwards, which heat maps do not need.
"""

from __future__ import annotations

import numpy as np

_ROUNDS = 5
_COMPACT = 0.2  # of the colours' range: what a step of one raster cell costs


def superpixels(image: np.ndarray, count: int) -> np.ndarray:
    """Return the number of each pixel's superpixel.

    Args:
        image: (H, W, 3) uint8.
        count: about how many to make.

    Returns:
        (H, W) int64 from 0.
    """
    height, width = image.shape[:2]
    step = max(1.0, (height * width / count) ** 0.5)
    rows, columns = max(1, round(height / step)), max(1, round(width / step))
    y, x = np.mgrid[:height, :width]
    own_row, own_column = y * rows // height, x * columns // width
    places = np.stack([y / step, x / step], -1) * _COMPACT
    points = np.concatenate([image / 255.0, places], -1).reshape(-1, 5)
    found = (own_row * columns + own_column).reshape(-1)
    for _ in range(_ROUNDS):
        filled = np.bincount(found, minlength=rows * columns)
        sums = [np.bincount(found, values, rows * columns) for values in points.T]
        centres = np.stack(sums, -1) / filled.clip(min=1)[:, None]
        centres[filled == 0] = np.inf  # nothing comes back to it
        best = np.full(len(points), np.inf)
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                row = (own_row + down).clip(0, rows - 1)
                column = (own_column + right).clip(0, columns - 1)
                number = (row * columns + column).reshape(-1)
                far = ((points - centres[number]) ** 2).sum(-1)
                nearer = far < best
                best[nearer], found[nearer] = far[nearer], number[nearer]
    return np.unique(found, return_inverse=True)[1].reshape(height, width)
