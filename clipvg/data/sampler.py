"""The order in which an epoch walks the labels."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from clipvg.errors import InputError

_LOOK_AHEAD = 64  # groups among which one is sought that fills a batch


class EpochOrder:
    """Batches of row numbers of one epoch; a ``batch_sampler`` of a DataLoader.

    The permutation depends on (seed, epoch) alone, so every process computes the same one and a
    resumed run continues with the batch that comes next. Shuffled, the global batch k is the same
    rows for one process with batch W * B as for W processes with batch B; the last, partial one is
    split evenly and a process may be left without rows (data-parallel training wants
    ``drop_last``). In order, each process gets one contiguous range, so that labels of one picture
    stay together.

    Args:
        n: number of labels.
        batch_size: rows a batch and process.
        seed: seed of the run.
        epoch: number of the epoch, from 0; may be assigned between epochs.
        rank: number of this process.
        world: number of processes.
        drop_last: leave out the last, partial batch.
        shuffle: False walks the rows in order.
        start: batches to skip, for resuming in the middle of an epoch.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = False,
        shuffle: bool = True,
        start: int = 0,
    ) -> None:
        if batch_size < 1 or world < 1 or not 0 <= rank < world:
            raise InputError(
                f"batch size {batch_size}, rank {rank} of {world}: expected a batch size >= 1 "
                "and 0 <= rank < world"
            )
        self.n, self.batch_size, self.seed, self.epoch = n, batch_size, seed, epoch
        self.rank, self.world = rank, world
        self.drop_last, self.shuffle, self.start = drop_last, shuffle, start

    def permutation(self) -> np.ndarray:
        """All rows (n,) int64 in this epoch's order, before batching and sharding."""
        if not self.shuffle:
            return np.arange(self.n)
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.n)

    def _batches(self) -> list[np.ndarray]:
        """This process's batches of the whole epoch, those before ``start`` included."""
        order = self.permutation()
        if not self.shuffle:
            rows = np.array_split(order, self.world)[self.rank]
            batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        else:
            step = self.batch_size * self.world
            shared = [order[i : i + step] for i in range(0, self.n, step)]
            batches = [np.array_split(batch, self.world)[self.rank] for batch in shared]
            if self.drop_last and shared and len(shared[-1]) < step:
                batches.pop()
        if self.drop_last:
            batches = [batch for batch in batches if len(batch) == self.batch_size]
        return [batch for batch in batches if len(batch)]

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches()[self.start :]:
            yield batch.tolist()

    def __len__(self) -> int:
        return max(0, len(self._batches()) - self.start)


def group_by_image(
    image_of: np.ndarray, size: int, batch: int, *, seed: int = 0, epoch: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """An epoch's order in which labels of a picture come together, in groups of at most ``size``.

    Groups, and who is in them, are drawn anew in each epoch, from (seed, epoch) alone. A batch has
    exactly ``batch`` labels and whole groups: of the groups that come next the first that fits is
    taken, and where none does one is cut in two.

    Args:
        image_of: (N,) int64, picture of each label.
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
    begins = np.append(True, np.diff(image_of[by_image]) != 0)[:count]  # (N,), a picture's first
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
