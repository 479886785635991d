"""Several trainings on the same batches: side by side on a CPU's cores, else in turn."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Condition
from types import TracebackType

import torch

from clipvg.training.feed import AnyBatch
from clipvg.training.trainer import Trainer

Window = Sequence[Sequence[AnyBatch]]  # by step, then by part


class Lanes:
    """Context that updates trainings.

    A small head's products are too short to share out: two cores give 1.5 times one core's speed
    on each, but twice on two trainings. So on a CPU each training keeps to one lane of threads;
    with dropout they go in turn, as all draw from one generator.

    Args:
        trainers: those to update.

    Attributes:
        is_wide: whether trainings go side by side.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        first, self._threads = trainers[0], torch.get_num_threads()
        alone = len(trainers) == 1 or self._threads == 1 or first.world.size > 1
        self.is_wide = not alone and first.device.type == "cpu" and first.model.config.dropout == 0
        self._count = min(len(trainers), self._threads)
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Lanes":
        if self.is_wide:
            self._pool = ThreadPoolExecutor(self._count)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def update(
        self, trainers: Sequence[Trainer], window: Window, *, side_by_side: bool = True
    ) -> None:
        """Take all steps of the window with every training."""
        if self._pool is None or not side_by_side:
            for loaded in window:
                for trainer in trainers:
                    trainer.update(loaded)
            return
        turns = _Turns(trainers, window)
        try:
            for lane in [self._pool.submit(self._work, turns) for _ in range(self._count)]:
                lane.result()
        finally:
            torch.set_num_threads(self._threads)

    def _work(self, turns: "_Turns") -> None:
        # Each time anew: OpenMP keeps a number for each thread, but MKL one for all.
        torch.set_num_threads(max(1, self._threads // self._count))
        turns.work()


class _Turns:
    """Who takes the next step: the training that is furthest behind and not under way."""

    def __init__(self, trainers: Sequence[Trainer], window: Window) -> None:
        self._window, self._free = window, dict.fromkeys(trainers, 0)
        self._under_way, self._changed = 0, Condition()
        self._failed = False

    def work(self) -> None:
        """Take steps until there are none left."""
        while (turn := self._next()) is not None:
            trainer, step = turn
            try:
                trainer.update(self._window[step])
            except BaseException:
                self._failed = True
                raise
            finally:
                self._done(trainer, step + 1)

    def _next(self) -> tuple[Trainer, int] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._free or not self._under_way or self._failed)
            if not self._free or self._failed:
                return None
            trainer = min(self._free, key=self._free.__getitem__)
            self._under_way += 1
            return trainer, self._free.pop(trainer)

    def _done(self, trainer: Trainer, step: int) -> None:
        with self._changed:
            self._under_way -= 1
            if step < len(self._window):
                self._free[trainer] = step
            self._changed.notify_all()
