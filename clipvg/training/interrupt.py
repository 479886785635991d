"""Ctrl-C, SIGTERM, SIGHUP in a training: finish the step, write the checkpoint, then obey."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

import torch

from clipvg.runtime import distributed
from clipvg.runtime.distributed import World

_SIGNALS = [n for name in ("SIGINT", "SIGTERM", "SIGHUP") if (n := getattr(signal, name, None))]
_AGREE_EVERY = 10  # steps between two exchanges of the flag: one every step would stall a GPU


class Interrupt:
    """Context that turns the first such signal into a request to stop at a step's end.

    A second signal acts at once; one that is ignored stays so. Outside of the main thread signals
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        """Give the signal to whoever handled it before; KeyboardInterrupt where that returns."""
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
