"""Control how PyTorch's OpenMP threads wait for each other, on idle and on busy machines.

A thread that reaches a barrier spins for some milliseconds before it sleeps. On an idle machine
that is right: waking a thread takes longer than most waits. If other processes want the cores,
spinning uses up the time in which the awaited thread could have run, and computations slow down
several-fold. Spinning for some tens of microseconds costs little in either case, and results are
bit-identical (docs/performance.md).

A sleeping thread must also get a core soon after it is woken. Linux, from 6.12 on, first serves
threads that ask for short time slices, so a short one is requested; no process gets less for it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

# A user who sets one of these has decided how threads wait.
DECIDING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
# For GNU's libgomp, which comes with PyTorch's wheels: spin iterations, by default 300,000. In a
# process with more threads than processors libgomp uses this number by itself.
SHORT_SPIN = {"GOMP_SPINCOUNT": "1000"}
SLICE = 200_000  # nanoseconds of the time slice requested; the kernel's own are 3 ms or more
_SCHED_ATTR = "IIQiIQQQ"  # size, policy, flags, nice, priority, runtime, deadline, period
# The C library has no functions for them before glibc 2.41.
_CALLS = {
    "x86_64": {"sched_setattr": 314, "sched_getattr": 315},
    "aarch64": {"sched_setattr": 274, "sched_getattr": 275},
}
_is_ours = False


def shorten_waits() -> None:
    """Make threads spin briefly and wake soon, in this process and in those that it starts.

    What the user has set in the environment is kept. The OpenMP runtime reads the variable when
    torch loads it, so nothing is done in a process that has imported torch already.
    """
    global _is_ours
    if "torch" not in sys.modules and not _decided():
        os.environ.update(SHORT_SPIN)
        ask_for_short_slices()
        _is_ours = True


def ask_for_short_slices() -> None:
    """Request time slices of `SLICE` for this thread and those it starts, if Linux has them."""
    now = _scheduling()
    if now and now[1] in (0, 3):  # the usual policies: in others "runtime" means another thing
        # Older kernels ignore it, and if one refuses, nothing changes.
        _call("sched_setattr", 0, struct.pack(_SCHED_ATTR, *now[:5], SLICE, *now[6:]), 0)


def waiting_variables() -> dict[str, str]:
    """Return the variables that set how threads wait, for processes that do not inherit them."""
    return _decided() or SHORT_SPIN


def describe_waiting() -> str:
    """Describe how threads wait in this process, and who decided it."""
    found = ", ".join(f"{name}={value}" for name, value in _decided().items())
    if not found:
        return "spinning while they wait, the runtime's default"
    if not _is_ours:
        return f"{found}, set by the environment"
    short = _scheduling()[5:6] == (SLICE,)
    return f"{found}{f', time slices of {SLICE / 1e6} ms' if short else ''}, set by clipvg"


def _decided() -> dict[str, str]:
    return {name: os.environ[name] for name in DECIDING if name in os.environ}


def _scheduling() -> tuple[int, ...]:
    """Return how this thread is scheduled, in the order of `_SCHED_ATTR`; empty if unknown."""
    found = ctypes.create_string_buffer(struct.calcsize(_SCHED_ATTR))
    failed = _call("sched_getattr", 0, found, len(found), 0)
    return () if failed else struct.unpack(_SCHED_ATTR, found.raw)


def _call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """Make a Linux system call for this thread; return 0, or -1 if it failed or does not exist."""
    numbers = _CALLS.get(platform.machine()) if sys.platform == "linux" else None
    return int(ctypes.CDLL(None).syscall(numbers[name], *arguments)) if numbers else -1
