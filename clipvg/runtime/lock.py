"""Lock a folder or file for one process, or one group of processes, at a time."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from clipvg.errors import InputError

_ORPHAN_SECONDS = 15.0  # processes forked by a killed owner may hold its lock for a moment


class Lock:
    """Lock on a folder, or on a file to write, held until it is closed or the process ends.

    Args:
        path: an existing folder, or a file in one; the lock is ``.lock`` in the folder, or
            ``.NAME.lock`` beside the file, and is removed at the end.
        option: option that chooses another path, for the error message.

    Raises:
        InputError: another process, which the message names, holds the lock.
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
        """Release the lock."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._file.unlink()  # while it is held: a waiting process makes another
            self._lock.release()

    def _owner(self) -> str:
        with suppress(OSError):
            return self._file.read_text(errors="replace")[:32].strip()
        return ""

    def _owner_is_alive(self) -> bool:
        return (owner := self._owner()).isdecimal() and is_alive(int(owner))


def is_alive(process: int) -> bool:
    """Return whether a process with this id exists."""
    try:
        os.kill(process, 0)
    except (OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
