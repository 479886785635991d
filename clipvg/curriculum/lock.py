"""One process, or one group of them, at a time in a run directory."""

from __future__ import annotations

import os
import time
from pathlib import Path

from clipvg.errors import InputError

try:
    import fcntl
except ImportError:  # no flock there: a run directory is then not protected
    fcntl = None  # type: ignore[assignment]

_ORPHAN_SECONDS = 15.0


def lock(folder: Path) -> int | None:
    """Lock a folder for this process until the returned descriptor is closed or the process ends.

    Raises:
        InputError: a process that is alive holds the lock; it is named.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    give_up = time.monotonic() + _ORPHAN_SECONDS
    while not _locks(descriptor):
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        # Workers of a killed process hold its lock until they notice, within seconds.
        if _is_alive(owner) or time.monotonic() > give_up:
            os.close(descriptor)
            raise InputError(
                f"{folder} is in use by process {owner or 'unknown'}; wait until it ends or "
                "choose another --out."
            )
        time.sleep(0.2)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_alive(owner: str) -> bool:
    """Whether the process that wrote its number into the lock is still there."""
    try:
        os.kill(int(owner), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
