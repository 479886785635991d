"""Which labels each optimizer step sees: a pure function of seed and step."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from clipvg.data.dataset import group_by_image, shuffle_rows
from clipvg.runtime.distributed import World


@dataclass(frozen=True)
class Part:
    """Rows of one forward pass; `counts` is False for a stand-in that must not count."""

    rows: np.ndarray
    counts: bool = True


@dataclass
class Order:
    """Shuffled label rows by optimizer step, split over processes and forward passes.

    The order depends only on the seed, the number of labels, the effective batch and any grouping
    by image, not on how that batch is split. So one process with accumulation walks the same labels
    as several, and a resumed run needs nothing but its step.
    """

    num_labels: int  # labels in all
    effective_batch: int  # labels of one optimizer step
    batch_size: int  # labels of one forward pass
    seed: int = 0  # of the shuffling
    # leave out the last, incomplete batch of an epoch; a set smaller than one batch is one batch
    drop_last: bool = True
    world: World = field(default_factory=World)  # this process's place
    image_of: np.ndarray | None = None  # (N,) int64 image of each label; needed to group
    # most labels of an image that come together, see `group_by_image`; 1 does not group. A forward
    # pass then holds whole groups, so about `batch_size` labels.
    group: int = 1
    _epoch: tuple[int, np.ndarray, np.ndarray | None] = field(
        default_factory=lambda: (-1, np.empty(0, np.int64), None), repr=False
    )

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch, at least 1."""
        if self.drop_last:
            return max(1, self.num_labels // self.effective_batch)
        return math.ceil(self.num_labels / self.effective_batch)

    def rows(self, step: int) -> np.ndarray:
        """Return the rows of one optimizer step over all processes, int64."""
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self.effective_batch
        return self._draw(epoch)[0][start : start + self.effective_batch]

    def leader(self, epoch: int) -> np.ndarray | None:
        """Return the first row of each row's group, (N,) int64; None without groups."""
        return self._draw(epoch)[1]

    def parts(self, step: int) -> list[Part]:
        """Return this process's rows of one step, one part per forward pass.

        A process that gets no row of a small last batch gets a stand-in, so that it takes part in
        the exchange of gradients.
        """
        rows, leader = self.rows(step), self.leader(step // self.steps_per_epoch)
        if leader is None:
            mine = rows[self.world.rank :: self.world.size]
            starts = range(0, len(mine), self.batch_size)
            pieces = [mine[start : start + self.batch_size] for start in starts]
        else:
            mine = _split(rows, leader, self.world.size)[self.world.rank]
            pieces = _split(mine, leader, max(1, round(len(mine) / self.batch_size)))
        parts = [Part(piece) for piece in pieces if len(piece)]
        return parts or [Part(rows[:1], counts=False)]

    def _draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return order and leaders of an epoch; those of the last epoch asked for are cached."""
        if self._epoch[0] != epoch:
            batch, leader = self.effective_batch, None
            if self.group > 1 and self.image_of is not None:
                rows, leader = group_by_image(
                    self.image_of, self.group, batch, seed=self.seed, epoch=epoch
                )
            else:
                rows = shuffle_rows(self.num_labels, seed=self.seed, epoch=epoch)
            self._epoch = (epoch, rows, leader)
        return self._epoch[1], self._epoch[2]


def _split(rows: np.ndarray, leader: np.ndarray, pieces: int) -> list[np.ndarray]:
    """Split rows into about equal pieces of whole groups; some may be empty."""
    first = np.flatnonzero(np.diff(leader[rows])) + 1
    borders = np.concatenate([[0], first, [len(rows)]])
    wanted = np.linspace(0, len(rows), pieces + 1)
    cuts = borders[np.abs(borders[:, None] - wanted).argmin(0)]
    return [rows[start:stop] for start, stop in pairwise(cuts)]
