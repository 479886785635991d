"""Joint end of the processes that `torchrun` started for one command: one of them says why."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch.distributed import Store

BEAT = 1.0  # seconds between two heartbeats
SILENT_BEATS = 20  # heartbeats missed by a lost process; torchrun needs up to 30 s more to end it
GRACE = 2.0  # seconds for a process to end by itself when another one has failed
PATIENCE = 25.0  # the same after a signal: the first process may be writing a checkpoint
_CONNECT = timedelta(seconds=30)


class Ending(NamedTuple):
    """How this process ends."""

    code: int  # exit code
    speaks: bool = True  # whether it reports the reason; otherwise another process has
    lost: int | None = None  # rank of a process that died silently, if that may be the reason


class Alone:
    """The only process of a command."""

    def end(self, code: int, *, is_cause: bool = True) -> Ending:
        """Return how to end with this exit code."""
        return Ending(code)


class Processes(Alone):
    """This process among several, which are connected by the store that `torchrun` provides.

    The first process that fails claims the end: it reports the reason, and the others end with its
    exit code. A thread gives a heartbeat every second; it ends this process if it waits in vain
    for one that has failed, and reports a neighbour that has fallen silent. A process ended by the
    thread ends as if killed, which everything that writes files withstands.
    """

    def __init__(self, say: Callable[[int], object]) -> None:
        import torch.distributed as dist

        self._rank, self._size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        is_elsewhere = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        self._is_host = self._rank == 0 and not is_elsewhere
        store = dist.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            self._size,
            self._is_host,
            _CONNECT,
            wait_for_workers=False,
            multi_tenant=True,  # the process group opens the same store
        )
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store: Store = dist.PrefixStore(f"clipvg/{attempt}", store)
        self._have_met, self._say = dist.is_initialized, say
        self._ends = threading.Event()
        self._watch = threading.Thread(target=self._keep_watch, name="processes", daemon=True)
        self._watch.start()

    def end(self, code: int, *, is_cause: bool = True) -> Ending:
        """Agree with the others how to end.

        If the failure is not known to be this process's own, it waits a moment to see whether
        another process was lost.
        """
        self._ends.set()
        self._watch.join(BEAT + GRACE)
        try:
            self._store.set(f"ended/{self._rank}", "")
            if code and self._store.add("claims", 1) > 1:
                return Ending(int(self._store.get("code")), speaks=False)
            if code:
                self._store.set("code", str(code))
            lost = self._see_others_end() if self._is_host or not is_cause else None
            return Ending(code, lost=None if is_cause else lost)
        except RuntimeError:  # the store ended with the process that hosts it
            return Ending(code, lost=None if is_cause else 0)

    def _see_others_end(self) -> int | None:
        """Wait for the others to end; return the rank of one that is neither ended nor alive."""
        others = [rank for rank in range(self._size) if rank != self._rank]
        signs = {rank: self._signs(rank) for rank in others}
        until = time.monotonic() + GRACE + 2 * BEAT
        while others and time.monotonic() < until:
            time.sleep(0.05)
            others = [rank for rank in others if not self._store.check([f"ended/{rank}"])]
        return next((rank for rank in others if self._signs(rank) == signs[rank]), None)

    def _signs(self, rank: int, more: int = 0) -> int:
        """Return the number of heartbeats of a process, after adding `more`."""
        return self._store.add(f"signs/{rank}", more)

    def _keep_watch(self) -> None:
        neighbour = (self._rank + 1) % self._size
        signs = silent = 0
        while not self._ends.wait(BEAT):
            try:
                self._signs(self._rank, 1)
                if self._store.check(["code"]):
                    self._leave(int(self._store.get("code")))
                    continue
                before, signs = signs, self._signs(neighbour)
                # Beats are counted, not seconds: if all processes were stopped, none was lost.
                is_silent = signs == before and self._have_met()
                silent = silent + 1 if is_silent else 0
                if silent > SILENT_BEATS and not self._store.check([f"ended/{neighbour}"]):
                    self._leave(1, lost=neighbour)
            except RuntimeError:  # the store is gone, with the process that hosts it
                self._leave(1, PATIENCE, lost=0)

    def _leave(self, code: int, wait: float | None = None, *, lost: int | None = None) -> None:
        """End this process, unless it ends by itself in the meantime."""
        if self._ends.wait(wait or (PATIENCE if code > 128 else GRACE)):
            return
        try:
            self._store.set(f"ended/{self._rank}", "")
            if lost is not None and self._store.add("claims", 1) == 1:
                self._store.set("code", str(code))
                self._say(lost)
        except RuntimeError:
            if lost is not None:
                self._say(lost)
        os._exit(code)


def open_processes(say: Callable[[int], object]) -> Alone:
    """Return `Processes` if `torchrun` started several, else `Alone`; `say` reports a lost rank."""
    is_set = os.environ.keys() >= {"RANK", "MASTER_ADDR", "MASTER_PORT"}
    return Processes(say) if is_set and int(os.environ.get("WORLD_SIZE", "1")) > 1 else Alone()
