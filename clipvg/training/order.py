"""Which labels each optimizer step sees: a pure function of seed and step."""

import math
from dataclasses import dataclass, field

import numpy as np

from clipvg.data.sampler import EpochOrder
from clipvg.training.distributed import World


@dataclass(frozen=True)
class Part:
    """Rows of one forward pass; `counts` is False for a stand-in that must not count."""

    rows: np.ndarray
    counts: bool = True


@dataclass
class Order:
    """Shuffled label rows by optimizer step, split over processes and forward passes.

    The order depends on the seed, the number of labels and the effective batch alone, not on how
    that batch is split, so one process with accumulation walks the same labels as several, and a
    resumed run needs nothing but its step.

    Attributes:
        num_labels: labels in all.
        effective_batch: labels of one optimizer step.
        batch_size: labels of one forward pass.
        seed: of the shuffling.
        drop_last: leave out the last, incomplete batch of an epoch; a set smaller than one batch
            is one batch.
        world: this process's place.
    """

    num_labels: int
    effective_batch: int
    batch_size: int
    seed: int = 0
    drop_last: bool = True
    world: World = field(default_factory=World)
    _epoch: tuple[int, np.ndarray] = field(
        default_factory=lambda: (-1, np.empty(0, np.int64)), repr=False
    )

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch, at least 1."""
        if self.drop_last:
            return max(1, self.num_labels // self.effective_batch)
        return math.ceil(self.num_labels / self.effective_batch)

    def rows(self, step: int) -> np.ndarray:
        """Rows of one optimizer step over all processes, int64."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            order = EpochOrder(self.num_labels, self.effective_batch, seed=self.seed, epoch=epoch)
            self._epoch = (epoch, order.permutation())
        start = position * self.effective_batch
        return self._epoch[1][start : start + self.effective_batch]

    def parts(self, step: int) -> list[Part]:
        """This process's rows of one step, one part per forward pass.

        A process that gets no row of a small last batch gets a stand-in, so that it takes part in
        the exchange of gradients.
        """
        rows = self.rows(step)
        mine = rows[self.world.rank :: self.world.size]
        if not len(mine):
            return [Part(rows[:1], counts=False)]
        starts = range(0, len(mine), self.batch_size)
        return [Part(mine[start : start + self.batch_size]) for start in starts]
