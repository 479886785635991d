"""The command lets threads sleep on a busy machine; the library leaves a process as it is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from clipvg.runtime.waiting import DECIDING, PASSIVE

INFO = "from clipvg.cli import main; main(['info'])"
DESCRIBE = (
    "from clipvg.runtime.waiting import *\nadapt_waiting()\n"
    "print(describe_waiting(), '|', waiting_variables())"
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")


def run(code: str, **variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in DECIDING}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@linux
def test_the_command_adapts_and_says_so() -> None:
    assert "sleeping while they wait when the machine is busy, set by clipvg" in run(INFO)


@pytest.mark.parametrize("name", DECIDING)
def test_what_the_user_has_set_stays(name: str) -> None:
    expected = f"{name}=1000, set by the environment | {{{name!r}: '1000'}}"
    assert run(DESCRIBE, **{name: "1000"}) == expected


def test_processes_elsewhere_sleep_while_they_wait() -> None:
    assert run(DESCRIBE).endswith(str(PASSIVE))


def test_importing_the_library_changes_nothing() -> None:
    code = (
        "import threading; import clipvg; clipvg.load\n"
        "from clipvg.runtime.waiting import describe_waiting\n"
        "print(threading.active_count(), describe_waiting())"
    )
    assert run(code) == "1 spinning while they wait, the runtime's default"


@linux
def test_threads_sleep_while_they_have_no_core_and_spin_again() -> None:
    code = """
import time, torch
from clipvg.runtime import waiting
delay = [0.0]
waiting.delayed_s = waiting.others_s = lambda: delay[0]
waiting.LOOK_EVERY_S, waiting.QUIET_LOOKS = 0.01, 2
torch.set_num_threads(2)
a, b = torch.randn(300, 400), torch.randn(400, 300)
first = (a @ b).softmax(-1).sum(0)
waiting.adapt_waiting()

def until(is_there):
    end = time.monotonic() + 30
    while (waiting._watch._idle_team is not None) != is_there and time.monotonic() < end:
        delay[0] += 0.1 * is_there  # of 0.01 s: both shares are far above their limits
        time.sleep(0.01)
    return (waiting._watch._idle_team is not None) == is_there

for busy in (True, False, True, False):
    print(until(busy), torch.equal((a @ b).softmax(-1).sum(0), first))
"""
    assert run(code, OMP_NUM_THREADS="2").split() == ["True"] * 8


def test_where_nothing_can_be_done_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from clipvg.runtime import waiting

    monkeypatch.setattr(waiting, "_loaded_runtimes", lambda: iter(()))
    assert waiting._IdleTeam.start() is None
