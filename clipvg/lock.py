"""One process, or one group of them, at a time on a folder or a file."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from clipvg.errors import InputError

try:
    import fcntl
except ImportError:  # no flock there: nothing is protected
    fcntl = None  # type: ignore[assignment]

_ORPHAN_SECONDS = 15.0


class Lock:
    """Locks a folder, or a file that is to be written, until it is closed or the process ends.

    Args:
        path: a folder that exists, or a file in one; the lock is ``.lock`` in the folder, or
            ``.NAME.lock`` beside the file, which is removed in the end.
        option: what chooses another path, for the error.

    Raises:
        InputError: a process that is alive holds the lock; it is named.
    """

    def __init__(self, path: Path, option: str = "--out") -> None:
        self._is_folder = path.is_dir()
        self._file = path / ".lock" if self._is_folder else path.with_name(f".{path.name}.lock")
        self._descriptor: int | None = None
        if fcntl is None:
            return
        give_up = time.monotonic() + _ORPHAN_SECONDS
        while (descriptor := _try(self._file)) is None:
            owner = _owner(self._file)
            # Workers of a killed process hold its lock until they notice, within seconds.
            if _is_alive(owner) or time.monotonic() > give_up:
                raise InputError(
                    f"{path} is in use by process {owner or 'unknown'}; wait until it ends or "
                    f"choose another {option}."
                )
            time.sleep(0.2)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes in."""
        if self._descriptor is None:
            return
        if not self._is_folder:
            with suppress(OSError):
                self._file.unlink()
        os.close(self._descriptor)
        self._descriptor = None


def _try(file: Path) -> int | None:
    """Return a descriptor that holds the lock; None where another process does."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The last owner may have removed the file in between: then this locks nothing.
        if os.path.samestat(os.fstat(descriptor), os.stat(file)):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _owner(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(errors="replace")[:32].strip()
    return ""


def _is_alive(owner: str) -> bool:
    """Whether the process that wrote its number into the lock is still there."""
    try:
        os.kill(int(owner), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
