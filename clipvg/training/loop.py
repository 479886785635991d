"""The loop over optimizer steps, for one training or several that share their batches."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from math import ceil, log2
from types import FrameType

import torch
from tqdm import tqdm

from clipvg.features import FeatureBatch, FeatureCache
from clipvg.features.cache import Encoder
from clipvg.model.grounder import GroundingModel
from clipvg.runtime import distributed
from clipvg.runtime.distributed import World
from clipvg.runtime.progress import progress_bar
from clipvg.training.batches import AnyBatch, Batches
from clipvg.training.trainer import Trainer

Judge = Callable[[GroundingModel], float]

_SIGNALS = [n for name in ("SIGINT", "SIGTERM", "SIGHUP") if (n := getattr(signal, name, None))]
_AGREE_EVERY = 10  # steps between exchanges of the stop flag: one every step would stall a GPU


def rungs(candidates: int, steps: int) -> list[int]:
    """Return the steps after which successive halving drops the worse half of the candidates left.

    There are as many as it takes to leave one candidate; the last is after half of all steps, each
    earlier one after half as many as the next. Of n candidates ceil(n / 2) go on.

    Example:
        >>> rungs(3, 1200)
        [300, 600]
    """
    count = ceil(log2(candidates)) if candidates > 1 else 0
    found = [steps >> (count - i) for i in range(count)]
    return sorted({step for step in found if step > 0})


class Loop:
    """Trains all trainers to their last step over the same batches.

    Each does exactly what it would do alone; images are decoded and encoded once for all. Trainers
    may be at different steps, as after a kill: those ahead wait for the others. With a judge
    (higher is better) the trainers are halved, see `rungs`.
    """

    def __init__(
        self,
        trainers: Sequence[Trainer],
        batches: Batches,
        *,
        features: FeatureCache | None,
        progress: bool,
        judge: Judge | None = None,
    ) -> None:
        self._left = list(trainers)
        self._batches = batches
        self._judge = judge
        first = self._first = trainers[0]
        self._rungs = rungs(len(trainers), first.steps) if judge is not None else []
        dtype = torch.bfloat16 if first.config.amp == "bf16" else None
        self._encoder = Encoder(first.model, dtype) if first.model.frozen_images else None
        self._progress = progress and first.world.is_main
        self._step = 0
        for trainer in trainers:
            trainer.serve(features, progress=progress)

    def run(self) -> None:
        """Run all steps; on Ctrl-C or SIGTERM, write checkpoints before stopping."""
        self._settle()
        self._step = self._behind()
        steps = self._first.steps
        bar = progress_bar(
            steps, initial=self._step, unit="step", desc="train", show=self._progress
        )
        if self._first.config.standardise and self._step == 0:
            batch = next(iter(self._batches(0, 1)))
            for trainer in self._left:
                if trainer.step == 0:
                    trainer.standardise(batch)
        batches = self._batches(self._step, steps)
        with bar, Interrupt(self._first.world) as interrupt:
            while self._step < steps:
                began, parts = time.perf_counter(), self._load(batches)
                active = [t for t in self._left if t.step == self._step]
                for trainer in active:
                    trainer.update(parts)
                self._step += 1
                for trainer in active:
                    trainer.seconds += (time.perf_counter() - began) / len(active)
                    trainer.after_step()
                self._settle()
                bar.update()
                self._show(bar)
                if interrupt.requested(self._step):
                    self._checkpoint()
                    interrupt.obey()

    def _behind(self) -> int:
        return min(trainer.step for trainer in self._left)

    def _load(self, batches: Iterator[AnyBatch]) -> list[AnyBatch]:
        """Load the parts of the next step's batch, encoded where the candidates share them."""
        try:
            return [self._prepare(next(batches)) for _ in self._first.order.parts(self._step)]
        except KeyboardInterrupt:  # raised while loading: no step is under way
            if self._first.world.size == 1:
                self._checkpoint()
            raise

    def _prepare(self, batch: AnyBatch) -> AnyBatch:
        batch = batch.to(self._first.device, non_blocking=True)
        if isinstance(batch, FeatureBatch) or self._encoder is None:
            return batch
        with self._first.autocast:
            return self._encoder(batch)

    def _settle(self) -> None:
        """Drop the worse half at each rung that all candidates left have reached."""
        while self._rungs and self._judge is not None and self._behind() >= self._rungs[0]:
            rung = self._rungs.pop(0)
            for trainer in self._left:
                if rung in trainer.rungs:  # judged before a kill
                    continue
                trainer.rungs[rung] = self._judge(trainer.model)
                trainer.model.train()
                trainer.checkpoint()
            # sorted() is stable: of equals the first given goes on
            best = sorted(self._left, key=lambda t: -t.rungs[rung])[: ceil(len(self._left) / 2)]
            self._left = [t for t in self._left if t in best]

    def _checkpoint(self) -> None:
        for trainer in self._left:
            trainer.checkpoint()

    def _show(self, bar: tqdm) -> None:
        if len(self._left) > 1 or not self._left[0].metrics:
            return
        line = self._left[0].metrics[-1]
        shown = {k: v for k, v in line.items() if k in ("epoch", "loss", "val_acc_0.5")}
        postfix = {k: f"{v:.3f}" if k != "epoch" else v for k, v in shown.items()}
        bar.set_postfix(postfix, refresh=False)  # a refresh would show the bar before its time


class Interrupt:
    """Context that turns the first SIGINT, SIGTERM or SIGHUP into a request to stop after a step.

    A second signal acts at once; ignored signals stay ignored. Outside of the main thread signals
    are left alone.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._received: int | None = None
        self._previous: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            taken = [s for s in _SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
            self._previous = {s: signal.signal(s, self._on_signal) for s in taken}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._restore()
        # A signal that came after the last check must not be lost: the training is over, the
        # program that wanted to stop is not.
        if kind is None and self._received is not None:
            signal.raise_signal(self._received)

    def requested(self, step: int) -> bool:
        """Whether to stop now: on several processes they agree, so that all stop at one step."""
        asked = self._received is not None
        if self._world.size == 1:
            return asked
        if step % _AGREE_EVERY:
            return False
        flag = torch.tensor([float(asked)])
        return bool(distributed.all_reduce(flag, self._world, "max").item())

    def obey(self) -> None:
        """Pass the signal to its previous handler; raise KeyboardInterrupt if that returns."""
        self._restore()
        signal.raise_signal(self._received or signal.SIGINT)
        raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            self._restore()
            signal.raise_signal(number)
        self._received = number

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
