"""Calls in processes of their own: killed while they write, or two that work as one.

A call is a name, "module:function", and what `json` can carry; a number that it returns is the exit
code. All processes of a call are forked from one, which has imported the module: torch is loaded
once.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that may import what tests may, with one thread."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}


def killed(call: str, *arguments: Any, writes: Sequence[int]) -> list[int]:
    """Make the call once for each of `writes`, killed at its n-th write (0: never); exit codes."""
    children = [{"write": write} for write in writes]
    codes, _, err = _forked(call, arguments, children, together=False)
    sys.stderr.write(err)  # shown where a test fails
    return codes


def as_two(call: str, *arguments: Any, agent: float | None = None) -> tuple[list[int], str, str]:
    """Make the call in two processes of one group, with the variables that `torchrun` sets.

    Args:
        call: see above.
        arguments: of the call.
        agent: as `torchrun` does, let them meet elsewhere than in the first process, and end one
            that goes on when the other has failed: seconds between SIGTERM and SIGKILL.

    Returns:
        The exit codes, and both output streams.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    shared |= {} if agent is None else {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    ranks = [{**shared, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]
    children = [{"environment": rank} for rank in ranks]
    return _forked(call, arguments, children, together=True, agent=agent)


def _forked(
    call: str,
    arguments: Sequence[Any],
    children: list[dict[str, Any]],
    *,
    together: bool,
    agent: float | None = None,
) -> tuple[list[int], str, str]:
    """Exit codes and output of the children, which run at once or one after the other."""
    content = {"call": call, "arguments": arguments, "children": children, "together": together}
    content["agent"] = agent
    ran = subprocess.run(
        [sys.executable, "-m", "support.processes"],
        input=json.dumps(content, default=str),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    out, _, codes = ran.stdout.rpartition("\n")
    return json.loads(codes), out, ran.stderr


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


def _fork(action: Callable[[], Any], *, write: int = 0, environment: Any = ()) -> int:
    """Start a child that ends with the action; its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ.update(environment)
        if write:
            _die_at(write)
        code = action() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _main(
    call: str, arguments: list[Any], children: list[Any], together: bool, agent: float | None
) -> list[int]:
    module, name = call.split(":")
    function = getattr(importlib.import_module(module), name)
    codes, started = [], []
    for options in children:
        started.append(_fork(lambda: function(*arguments), **options))
        if not together or len(started) == len(children):
            store = None if agent is None else _store(options["environment"])
            codes += _ends(started, agent)
            started.clear()
            del store
    return codes


def _store(environment: dict[str, str]) -> object:
    """Where the processes meet."""
    from torch.distributed import TCPStore

    host, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    return TCPStore(host, port, is_master=True, wait_for_workers=False)


def _ends(children: list[int], agent: float | None) -> list[int]:
    """Exit codes; where an agent watches, what goes on beside a failed process is ended."""
    codes: dict[int, int] = {}
    end_at: float | None = None
    while len(codes) < len(children):
        child, status = os.waitpid(-1, 0 if agent is None else os.WNOHANG)
        left = [each for each in children if each not in codes and each != child]
        if child:
            codes[child] = os.waitstatus_to_exitcode(status)
        if child and codes[child] and agent is not None and end_at is None:
            end_at = time.monotonic() + agent
            for each in left:
                os.kill(each, signal.SIGTERM)
        elif end_at is not None and time.monotonic() > end_at:
            for each in left:
                os.kill(each, signal.SIGKILL)
        if not child:
            time.sleep(0.05)
    return [codes[child] for child in children]


if __name__ == "__main__":
    found = _main(**json.load(sys.stdin))
    print(f"\n{json.dumps(found)}", end="")
