"""How PyTorch's OpenMP threads wait for each other, on a quiet machine and on a busy one.

A thread that reaches a barrier first spins, for some milliseconds, before it sleeps. On a quiet
machine that is right: nobody else wants the core, and waking a thread takes longer than most
waits. Where other processes want the cores, spinning uses up the time in which the thread that is
waited for could have run, and a computation slows 3- to 15-fold (docs/performance.md).

`adapt_waiting` does both: threads spin while nothing else wants their cores, and sleep when the
scheduler makes them wait. It changes how they wait and nothing else: results are equal to the bit.

The runtime (GNU's libgomp, which PyTorch brings) has no call for that, but it hardly spins in a
process that has more OpenMP threads than there are processors. So a second team of threads is
started that does nothing and sleeps; it is let go when the machine is quiet again.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

# Whoever sets one of these has decided how threads wait.
DECIDING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
LOOK_EVERY_S = 0.2
# Seconds a second. Where others take no core, the threads of this process delay each other.
DELAYED = 0.1  # for which threads that could run had no core, all added up
TAKEN = 0.25  # of the cores that others used, added up
QUIET_LOOKS = 10  # in a row, before threads spin again
_watch: _Watch | None = None


def adapt_waiting() -> None:
    """Let threads sleep while they wait where the machine is busy, from now on in this process.

    What the user has decided in the environment stays. Where this cannot be done (not on Linux, or
    PyTorch has another OpenMP runtime) nothing changes.
    """
    global _watch
    is_decided = any(name in os.environ for name in DECIDING)
    if _watch is None and not is_decided and Path("/proc/self/task").is_dir():
        _watch = _Watch()
        _watch.start()


def waiting_variables() -> dict[str, str]:
    """Return what decides how threads wait, for processes elsewhere that nobody watches."""
    return {name: os.environ[name] for name in DECIDING if name in os.environ} or PASSIVE


def describe_waiting() -> str:
    """Return how threads wait in this process, and who said so."""
    found = [f"{name}={os.environ[name]}" for name in DECIDING if name in os.environ]
    if found:
        return f"{', '.join(found)}, set by the environment"
    if _watch is None:
        return "spinning while they wait, the runtime's default"
    return "sleeping while they wait when the machine is busy, set by clipvg"


class _Watch(threading.Thread):
    """Look every now and then whether this process's threads have to wait for a core."""

    def __init__(self) -> None:
        super().__init__(name="clipvg-waiting", daemon=True)
        self._idle_team: _IdleTeam | None = None

    def run(self) -> None:
        """Start the idle team when threads wait for cores, and end it when they do not."""
        delayed, others, looked = delayed_s(), others_s(), time.monotonic()
        quiet_looks = 0
        pause = threading.Event()
        while not pause.wait(LOOK_EVERY_S):
            now = delayed_s(), others_s(), time.monotonic()
            seconds = now[2] - looked
            share, taken = (now[0] - delayed) / seconds, (now[1] - others) / seconds
            delayed, others, looked = now
            is_busy = share > DELAYED and taken > TAKEN
            quiet_looks = 0 if is_busy else quiet_looks + 1
            if self._idle_team is None and is_busy:
                self._idle_team = _IdleTeam.start()
            elif self._idle_team is not None and quiet_looks >= QUIET_LOOKS:
                self._idle_team.end()
                self._idle_team = None


class _IdleTeam:
    """One OpenMP thread more than there are processors, all of them asleep."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._keep, args=(library,), daemon=True)
        self._thread.start()

    @classmethod
    def start(cls) -> _IdleTeam | None:
        """Start it; None where PyTorch is not loaded yet, or has another runtime."""
        path = next(_loaded_runtimes(), None)
        return None if path is None else cls(ctypes.CDLL(path))

    def end(self) -> None:
        """Let the threads go."""
        self._is_over.set()
        self._thread.join()

    def _keep(self, library: ctypes.CDLL) -> None:
        # A parallel region that frees nothing makes the team; it lives as long as its first thread.
        nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
        library.GOMP_parallel(nothing, None, (os.cpu_count() or 1) + 2, 0)
        self._is_over.wait()


def delayed_s() -> float:
    """Return the seconds for which threads of this process could have run but had no core."""
    total = 0
    for task in Path("/proc/self/task").iterdir():
        try:
            # nanoseconds that it ran, nanoseconds that it waited to run, number of times
            total += int((task / "schedstat").read_text().split()[1])
        except (OSError, IndexError, ValueError):  # it has ended, or the kernel does not count
            continue
    return total / 1e9


def others_s() -> float:
    """Return the seconds that others have computed on the cores that this process may use."""
    ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in ours:
            user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, ticks[:8])
            total += user + nice + system + irq + softirq + steal
    return total / os.sysconf("SC_CLK_TCK") - time.process_time()


def _loaded_runtimes() -> Iterator[str]:
    """Yield the path of the OpenMP runtime that PyTorch has loaded."""
    if "torch" not in sys.modules:
        return
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        # scikit-learn brings a runtime of its own
        if "libgomp" in path and "scikit_learn" not in path:
            yield path
