"""One process, or one group of them, at a time on a folder or a file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from clipvg.errors import InputError

_ORPHAN_SECONDS = 15.0  # processes forked by a killed owner may hold its lock for a moment


class Lock:
    """Lock a folder, or a file that is to be written, until it is closed or the process ends.

    Args:
        path: a folder that exists, or a file in one; the lock is ``.lock`` in the folder, or
            ``.NAME.lock`` beside the file, and is removed in the end.
        option: what chooses another path, for the error.

    Raises:
        InputError: a process that is alive holds the lock; it is named.
    """

    def __init__(self, path: Path, option: str = "--out") -> None:
        self._file = path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock")
        self._lock = FileLock(self._file, thread_local=False, fallback_to_soft=False)
        try:
            self._lock.acquire(
                timeout=_ORPHAN_SECONDS, poll_interval=0.1, cancel_check=self._owner_is_alive
            )
        except Timeout:
            raise InputError(
                f"{path} is in use by process {self._owner() or 'unknown'}; wait until it ends or "
                f"choose another {option}."
            ) from None
        self._file.write_text(f"{os.getpid()}\n")

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes in."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._file.unlink()  # while it is held: who waits for it makes another
            self._lock.release()

    def _owner(self) -> str:
        with suppress(OSError):
            return self._file.read_text(errors="replace")[:32].strip()
        return ""

    def _owner_is_alive(self) -> bool:
        return (owner := self._owner()).isdecimal() and is_alive(int(owner))


def is_alive(process: int) -> bool:
    """Return whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except (OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
