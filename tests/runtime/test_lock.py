from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clipvg.errors import InputError
from clipvg.runtime.lock import Lock


def in_use(path: Path) -> bool:
    code = (
        "import sys; from pathlib import Path; from clipvg.runtime.lock import Lock\n"
        "try: Lock(Path(sys.argv[1]), '--store')\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    if done.stdout:
        assert f"{path} is in use by process {os.getpid()}" in done.stdout
        assert "another --store" in done.stdout
    return bool(done.stdout)


def test_a_folder_is_refused_to_others_until_it_is_closed(tmp_path: Path) -> None:
    with Lock(tmp_path):
        assert in_use(tmp_path)
        assert in_use(tmp_path)  # the first attempt has not erased the owner
    assert not list(tmp_path.iterdir())
    assert not in_use(tmp_path)


def test_the_lock_of_a_file_lies_beside_it_and_goes(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == [".out.parquet.lock"]
    with pytest.raises(InputError, match="in use"):
        Lock(tmp_path / "out.parquet")
    lock.close()
    lock.close()
    assert not list(tmp_path.iterdir())
    Lock(tmp_path / "out.parquet").close()


def test_the_lock_of_a_killed_process_ends_with_it(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from clipvg.runtime.lock import Lock\n"
        "lock = Lock(Path(sys.argv[1]))\n"
        "if os.fork() == 0: time.sleep(5); os._exit(0)\n"  # a worker that has not noticed yet
        "os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert killed.returncode == -9
    Lock(tmp_path).close()


def test_who_waits_for_a_lock_that_is_removed_gets_the_next_one(tmp_path: Path) -> None:
    first = Lock(tmp_path)
    code = (
        "import sys; from pathlib import Path; from clipvg.runtime import lock\n"
        "lock.Lock._owner_is_alive = lambda self: print('waits', flush=True)\n"  # falsy: wait on
        "held = lock.Lock(Path(sys.argv[1])); print(*Path(sys.argv[1]).iterdir(), flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as second:
        assert second.stdout.readline() == "waits\n"
        first.close()
        while (line := second.stdout.readline()) == "waits\n":
            pass
        assert line == f"{tmp_path / '.lock'}\n"
        with pytest.raises(InputError, match=f"in use by process {second.pid}"):
            Lock(tmp_path)
        second.stdin.close()
