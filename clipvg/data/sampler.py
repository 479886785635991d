"""The order in which an epoch walks the labels."""

from __future__ import annotations

from collections import deque

import numpy as np

_LOOK_AHEAD = 64  # groups among which one is sought that fills a batch


def shuffle_rows(n: int, *, seed: int = 0, epoch: int = 0) -> np.ndarray:
    """Return all rows (n,) int64 in an epoch's order, drawn from (seed, epoch) alone."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def group_by_image(
    image_of: np.ndarray, size: int, batch: int, *, seed: int = 0, epoch: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """An epoch's order in which labels of an image come together, in groups of at most ``size``.

    Groups, and who is in them, are drawn anew in each epoch, from (seed, epoch) alone. A batch has
    exactly ``batch`` labels and whole groups: of the groups that come next the first that fits is
    taken, and where none does one is cut in two.

    Args:
        image_of: (N,) int64, image of each label.
        size: most labels in a group.
        batch: labels of a batch.
        seed: seed of the run.
        epoch: number of the epoch, from 0.

    Returns:
        Rows (N,) int64 in order; leader (N,) int64 by row, the first row of its group.

    Example:
        >>> rows, leader = group_by_image(np.array([0, 1, 0, 1]), 2, 2)
        >>> bool((leader[rows[::2]] == leader[rows[1::2]]).all())
        True
    """
    draw = np.random.default_rng([seed, epoch])
    count = len(image_of)
    shuffled = draw.permutation(count)
    by_image = shuffled[np.argsort(image_of[shuffled], kind="stable")]
    place = np.arange(count)
    begins = np.append(True, np.diff(image_of[by_image]) != 0)[:count]  # (N,), an image's first
    starts = np.flatnonzero((place - np.maximum.accumulate(place * begins)) % size == 0)
    counts = np.diff(starts, append=count)
    groups = _filling(draw.permutation(len(counts)), counts, batch)
    number = np.repeat(np.arange(len(groups)), counts[groups])  # (N,), group by place in the epoch
    shift = np.repeat(np.cumsum(counts[groups]) - counts[groups] - starts[groups], counts[groups])
    rows = by_image[place - shift]
    first = np.append(True, np.diff(number) != 0)[:count] | (place % batch == 0)
    leader = np.empty(count, dtype=np.int64)
    leader[rows] = rows[np.maximum.accumulate(place * first)]
    return rows, leader


def _filling(order: np.ndarray, counts: np.ndarray, batch: int) -> np.ndarray:
    """The groups in an order in which few of them straddle a multiple of ``batch`` labels."""
    coming, waiting = iter(order.tolist()), deque[int]()
    taken: list[int] = []
    room = batch
    while len(taken) < len(order):
        while len(waiting) < _LOOK_AHEAD and (group := next(coming, None)) is not None:
            waiting.append(group)
        fitting = (i for i, group in enumerate(waiting) if counts[group] <= room)
        chosen = next(fitting, 0)
        taken.append(waiting[chosen])
        del waiting[chosen]
        room = (room - int(counts[taken[-1]])) % batch or batch
    return np.array(taken, dtype=np.int64)
