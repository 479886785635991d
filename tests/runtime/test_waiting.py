"""The command shortens how long waiting threads spin; the library leaves a process as it is."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys

import pytest

from clipvg.runtime.waiting import DECIDING, SHORT_SPIN

INFO = "from clipvg.cli import main; main(['info'])"
DESCRIBE = (
    "from clipvg.runtime.waiting import *\nshorten_waits()\n"
    "print(describe_waiting(), '|', waiting_variables())"
)


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


def test_the_command_shortens_it_and_says_so_and_the_runtime_reads_it() -> None:
    code = f"import os; os.dup2(1, 2)  # where libgomp prints\n{INFO}"
    told = run(code, OMP_DISPLAY_ENV="VERBOSE")
    assert re.search(r"GOMP_SPINCOUNT=1000(, time slices of 0.2 ms)?, set by clipvg", told)
    if sys.platform == "linux":  # only the wheels for Linux have libgomp
        assert "GOMP_SPINCOUNT = '1000'" in told


@pytest.mark.skipif(sys.platform != "linux", reason="a call to Linux")
def test_threads_inherit_the_slice_and_nothing_else_changes() -> None:
    told = run(
        "import os, threading; from clipvg.runtime import waiting\n"
        "os.nice(3); before = waiting._scheduling(); found = []\n"
        "waiting.ask_for_short_slices()\n"
        "thread = threading.Thread(target=lambda: found.append(waiting._scheduling()))\n"
        "thread.start(); thread.join()\n"
        "print(found[0] == before[:5] + (found[0][5],) + before[6:], before[5], found[0][5])"
    )
    same, before, after = told.split()
    assert same == "True"
    gives = tuple(map(int, platform.release().split(".")[:2])) >= (6, 12)
    assert int(after) == (200_000 if gives else int(before))


@pytest.mark.parametrize("name", DECIDING)
def test_what_the_user_has_set_stays(name: str) -> None:
    expected = f"{name}=7, set by the environment | {{{name!r}: '7'}}"
    assert run(DESCRIBE, **{name: "7"}) == expected


def test_a_process_that_has_torch_stays_as_it_is() -> None:
    told = run(f"import sys; sys.modules['torch'] = None\n{DESCRIBE}")
    assert told == f"spinning while they wait, the runtime's default | {SHORT_SPIN}"


def test_importing_the_library_changes_nothing() -> None:
    code = (
        "import clipvg; clipvg.load\n"
        "from clipvg.runtime.waiting import describe_waiting; print(describe_waiting())"
    )
    assert run(code) == "spinning while they wait, the runtime's default"
