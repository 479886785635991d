"""Run calls in processes of their own: killed while they write, or two that work as one.

A call is a name, "module:function", and arguments that `json` can carry; a number that it returns
is the exit code. All calls are forked from one server that has imported torch and the package,
which takes longer than most calls.
"""

from __future__ import annotations

import functools
import importlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TIMEOUT = 300  # seconds
IMPORTED = ["support.towers", "support.two_processes"]
IMPORTED += ["clipvg.cli.train", "clipvg.cli.score", "clipvg.cli.predict"]


def environment(**more: str) -> dict[str, str]:
    """Return an environment in which a process imports what tests can, with one thread."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}


class Call:
    """A call that runs in a process of its own."""

    def __init__(self, call: str, *arguments: Any, write: int = 0, **variables: str) -> None:
        """Start the call.

        Args:
            call: its name, "module:function".
            arguments: its arguments.
            write: kill it at its n-th rename or flush of a file; never if 0.
            variables: environment variables, in addition to those of this process.
        """
        self._files = [tempfile.NamedTemporaryFile() for _ in ("out", "err")]
        content = {"call": call, "arguments": arguments, "write": write}
        content["streams"] = [file.name for file in self._files]
        content["variables"] = {**os.environ, **variables}
        plain = json.dumps(content, default=str)
        self._process = _server().Process(target=_run, args=(plain,))
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    @property
    def out(self) -> str:
        return Path(self._files[0].name).read_text()

    @property
    def err(self) -> str:
        return Path(self._files[1].name).read_text()

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def end(self, timeout: float = TIMEOUT) -> int:
        """Wait for the end; return the exit code."""
        self._process.join(timeout)
        if self.code is None:
            self.send(signal.SIGKILL)
            self._process.join()
            raise AssertionError(f"it ran for more than {timeout} s\n{self.err}")
        return self.code


def killed(call: str, *arguments: Any, writes: Sequence[int]) -> list[int]:
    """Make the call for each of `writes`, killed at that write (0: never); return exit codes."""
    calls = []
    for write in writes:
        calls.append(Call(call, *arguments, write=write))
        calls[-1].end()
        sys.stderr.write(calls[-1].err)  # shown if a test fails
    return [each.code for each in calls]


def as_two(call: str, *arguments: Any, agent: float | None = None) -> tuple[list[int], str, str]:
    """Make the call in two processes of one group, with the variables that `torchrun` sets.

    Args:
        call: its name, "module:function".
        arguments: its arguments.
        agent: seconds between SIGTERM and SIGKILL; if given, act as `torchrun`'s agent: let them
            meet outside of the first process, and end one that goes on after the other has failed.

    Returns:
        The exit codes, and the joined outputs and errors of both.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    store = None if agent is None else _store(port)
    shared |= {} if store is None else {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    calls = [Call(call, *arguments, **shared, RANK=rank, LOCAL_RANK=rank) for rank in ("0", "1")]
    if agent is not None:
        _watch(calls, agent)
    codes = [each.end() for each in calls]
    return codes, "".join(each.out for each in calls), "".join(each.err for each in calls)


def _store(port: int) -> object:
    """Return the store where the processes meet."""
    from torch.distributed import TCPStore

    return TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)


def _watch(calls: Sequence[Call], seconds: float) -> None:
    """Wait until one has failed, then end those that still run."""
    deadline = time.monotonic() + TIMEOUT
    while not any(each.code for each in calls) and time.monotonic() < deadline:
        if all(each.code == 0 for each in calls):
            return
        time.sleep(0.02)
    left = [each for each in calls if each.code is None]
    for each in left:
        each.send(signal.SIGTERM)
    end_at = time.monotonic() + seconds
    while any(each.code is None for each in left) and time.monotonic() < end_at:
        time.sleep(0.02)
    for each in left:
        if each.code is None:
            each.send(signal.SIGKILL)


@functools.cache
def _server() -> multiprocessing.context.ForkServerContext:
    """Start the server, with one thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    before = dict(os.environ)
    try:
        os.environ.update(environment())
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def _run(plain: str) -> None:
    """Run a call as the main function of its process."""
    content = json.loads(plain)
    for descriptor, name in zip((1, 2), content["streams"], strict=True):
        file = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.clear()
    os.environ.update(content["variables"])
    # as in a terminal, even under nohup, which starts the tests with the signal ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    code = 1
    try:
        module, name = content["call"].split(":")
        function = getattr(importlib.import_module(module), name)
        if content["write"]:
            _die_at(content["write"])
        code = function(*content["arguments"]) or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _die_at(write: int) -> None:
    """Kill this process, without any clean-up, at its n-th rename or flush of a file."""
    left = [write]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    os.replace, os.fsync = counted(os.replace), counted(lambda descriptor: None)
    os.rename = counted(os.rename)
