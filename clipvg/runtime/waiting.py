"""How PyTorch's OpenMP threads wait for each other, on a quiet machine and on a busy one.

A thread that reaches a barrier spins, for some milliseconds, before it sleeps. Alone on a machine
that is right: waking a thread takes longer than most waits. Where other processes want the cores,
spinning uses up the time in which the thread that is waited for could have run, and a computation
slows several-fold. To spin some tens of microseconds loses little in either case, and results are
equal to the bit (docs/performance.md).

A thread that sleeps must get a core soon after it is woken, too. Linux, from 6.12 on, serves those
first that ask for little time at once, so a short slice is asked for; no process gets less for it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

# Whoever sets one of these has decided how threads wait.
DECIDING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
# For GNU's libgomp, which PyTorch's wheels bring: turns, of which it would make 300 000. It takes
# this number by itself in a process that has more threads than processors.
SHORT_SPIN = {"GOMP_SPINCOUNT": "1000"}
SLICE = 200_000  # nanoseconds that a thread asks for at once; the kernel's own are 3 ms or more
_SCHED_ATTR = "IIQiIQQQ"  # size, policy, flags, nice, priority, runtime, deadline, period
# The C library has no functions for them before glibc 2.41.
_CALLS = {
    "x86_64": {"sched_setattr": 314, "sched_getattr": 315},
    "aarch64": {"sched_setattr": 274, "sched_getattr": 275},
}
_is_ours = False


def shorten_waits() -> None:
    """Let threads spin only shortly and wake soon, in this process and in those that it starts.

    What the user has decided in the environment stays. The runtime reads the variable as torch
    loads it, so nothing is done in a process that has torch already.
    """
    global _is_ours
    if "torch" not in sys.modules and not _decided():
        os.environ.update(SHORT_SPIN)
        ask_for_short_slices()
        _is_ours = True


def ask_for_short_slices() -> None:
    """Ask for slices of `SLICE` for this thread and those it starts, where Linux can give them."""
    now = _scheduling()
    if now and now[1] in (0, 3):  # the usual policies: "runtime" is another thing in others
        # Older kernels ignore it, and one that refuses leaves all as it was.
        _call("sched_setattr", 0, struct.pack(_SCHED_ATTR, *now[:5], SLICE, *now[6:]), 0)


def waiting_variables() -> dict[str, str]:
    """Return what decides how threads wait, for processes that do not inherit the environment."""
    return _decided() or SHORT_SPIN


def describe_waiting() -> str:
    """Return how threads wait in this process, and who said so."""
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
    """How this thread is scheduled, as `_SCHED_ATTR` says; empty where it cannot be known."""
    found = ctypes.create_string_buffer(struct.calcsize(_SCHED_ATTR))
    failed = _call("sched_getattr", 0, found, len(found), 0)
    return () if failed else struct.unpack(_SCHED_ATTR, found.raw)


def _call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """Make a call to Linux for this thread; return 0, or -1 where it failed or there is none."""
    numbers = _CALLS.get(platform.machine()) if sys.platform == "linux" else None
    return int(ctypes.CDLL(None).syscall(numbers[name], *arguments)) if numbers else -1
