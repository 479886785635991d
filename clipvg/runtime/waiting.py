"""How PyTorch's OpenMP threads wait for each other, on a quiet machine and on a busy one.

A thread that reaches a barrier spins, for some milliseconds, before it sleeps. Alone on a machine
that is right: waking a thread takes longer than most waits. Where other processes want the cores,
spinning uses up the time in which the thread that is waited for could have run, and a computation
slows several-fold. To spin some tens of microseconds loses little in either case, and results are
equal to the bit (docs/performance.md).
"""

from __future__ import annotations

import os
import sys

# Whoever sets one of these has decided how threads wait.
DECIDING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
# For GNU's libgomp, which PyTorch's wheels bring: turns, of which it would make 300 000. It takes
# this number by itself in a process that has more threads than processors.
SHORT_SPIN = {"GOMP_SPINCOUNT": "1000"}
_is_ours = False


def shorten_spinning() -> None:
    """Let threads spin only shortly while they wait, in this process and in those that it starts.

    What the user has decided in the environment stays. The runtime reads the variable as torch
    loads it, so nothing is done in a process that has torch already.
    """
    global _is_ours
    if "torch" not in sys.modules and not _decided():
        os.environ.update(SHORT_SPIN)
        _is_ours = True


def waiting_variables() -> dict[str, str]:
    """Return what decides how threads wait, for processes that do not inherit the environment."""
    return _decided() or SHORT_SPIN


def describe_waiting() -> str:
    """Return how threads wait in this process, and who said so."""
    found = ", ".join(f"{name}={value}" for name, value in _decided().items())
    if not found:
        return "spinning while they wait, the runtime's default"
    return f"{found}, set by {'clipvg' if _is_ours else 'the environment'}"


def _decided() -> dict[str, str]:
    return {name: os.environ[name] for name in DECIDING if name in os.environ}
