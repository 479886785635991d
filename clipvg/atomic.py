"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp(\.[^.]+)?")  # as `atomic_path` names them


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Write a file under a temporary name; flush and rename it when the block succeeds.

    The temporary file is in the same folder and keeps the suffix, since writers choose formats by
    it. When the block raises, it is removed and the old file stays as it was; an error of writing
    names the file that was asked for. The file gets the permissions of any new file: some writers
    (safetensors) make files for their owner alone.

    Args:
        path: the file to write; its folder is created.

    Yields:
        The temporary path to write to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.stem}.{secrets.token_hex(6)}.tmp{path.suffix}"
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        temporary.unlink()
        yield temporary
        temporary.chmod(mode)
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None:
            if error.filename is None or str(error.filename) == str(temporary):
                error.filename = str(path)
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed process left in a folder and below.

    Nobody may be writing there: the caller holds the folder's lock.
    """
    for path in folder.rglob(".*.tmp*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink()


def _flush(path: Path) -> None:
    """Force a file, or the entries of a folder, to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
