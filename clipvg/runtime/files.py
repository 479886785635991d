"""Atomic writes: a file or folder appears complete or not at all."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import math
import os
import platform
import re
import secrets
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

from clipvg.errors import InputError, one_line
from clipvg.runtime.gate import check_local
from clipvg.runtime.lock import is_alive

Json = dict[str, Any]  # a JSON object
GONE = "was removed while it was written to; run the same command again, which begins anew"
# as named by `atomic_path`: process id, machine id and a random number
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8})([0-9a-f]{8})[0-9a-f]{8}\.tmp(\.[^.]+)?")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Write a file under a temporary name; flush and rename it when the block succeeds.

    The block gets the temporary path: in the same folder, which is created, and with the same
    suffix, since writers choose formats by it. If the block raises, the temporary file is removed
    and the old file stays unchanged; errors of writing name the requested file. The file gets the
    permissions of any new file: some writers (safetensors) make files readable by their owner only.
    Temporary files that a killed process on this machine left of the same file are removed.
    """
    path = check_local(path)
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is {_kind(path)}; name a file to write.")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers_of(path)
    writer = f"{os.getpid():08x}{_machine():08x}{secrets.token_hex(4)}"
    temporary = path.parent / f".{path.stem}.{writer}.tmp{path.suffix}"
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
        refused = _refusal(error, temporary)
        with suppress(OSError):
            temporary.unlink()
        if refused is not None:
            raise OSError(refused.errno, refused.strerror, str(path)) from error
        if isinstance(error, OSError) and error.errno is not None:
            if error.filename is None or str(error.filename) == str(temporary):
                error.filename = str(path)
        raise


def _refusal(error: BaseException, temporary: Path) -> OSError | None:
    """Return the system's error, such as a full disk, if a writer of torch or safetensors met one.

    They raise errors of their own; writing more bytes to the same file reveals the system's.
    """
    own = type(error).__name__ == "SafetensorError" or "inline_container" in str(error)
    if isinstance(error, OSError) or not own:
        return None
    try:
        with temporary.open("ab") as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as why:
        return why
    return OSError(errno.EIO, "it could not be written whole")


def _kind(path: Path) -> str:
    return "a folder" if path.is_dir() else "a device or pipe"


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Write a folder under a temporary name; flush its files and move it into place at the end.

    The block gets the temporary folder. If it raises, what it wrote is removed and the old folder
    stays unchanged; what a killed process left is removed by the next one that writes the folder.
    Only one process may write it at a time.
    """
    folder = check_local(folder)
    new, old = (folder.with_name(f".{folder.name}.{state}") for state in ("partial", "old"))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        for path in new.rglob("*"):
            if path.is_file():
                _flush(path)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:  # name the requested file, not the temporary one
        if error.errno is not None:
            name = str(error.filename or folder)
            error.filename = name.replace(str(new), str(folder), 1)
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Create a folder; if the block raises, remove the folders created here that are empty."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for each in made:
            with suppress(OSError):  # it is not empty
                each.rmdir()
        raise


def reserve(path: Path) -> None:
    """Allocate the disk space that a sparse file will need, if the system can."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder and below.

    No process may be writing there: the caller must hold the folder's lock.
    """
    for path in folder.rglob(".*.tmp*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink()


def _remove_leftovers_of(path: Path) -> None:
    """Remove a file's temporary files whose process, on this machine, no longer exists."""
    pattern = f".{glob.escape(path.stem)}.*.tmp{glob.escape(path.suffix)}"
    for found in path.parent.glob(pattern):
        name = _TEMPORARY.fullmatch(found.name)
        if name and int(name[2], 16) == _machine() and not is_alive(int(name[1], 16)):
            found.unlink(missing_ok=True)


@cache
def _machine() -> int:
    """Return a number for this machine or container, within which process ids are unique."""
    space = "/proc/self/ns/pid"
    inode = os.stat(space).st_ino if os.path.exists(space) else 0
    return zlib.crc32(f"{platform.node()} {inode}".encode())


def write_lines(path: Path, lines: Iterable[Mapping[str, object]]) -> None:
    """Write JSON Lines atomically; numbers that are not finite become null."""
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(to_json(line)) + "\n" for line in lines))


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write JSON atomically; numbers that are not finite become null."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(to_json(value), indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object that `write_json` wrote; an empty one if there is no file."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is {_kind(path)}; remove it")
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise InputError(
            f"{path} is damaged ({one_line(error, 80)}); run the command of the run again"
        ) from error
    return content if isinstance(content, dict) else {}


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_array(path: Path, values: np.ndarray) -> None:
    """Write an array atomically, as NumPy's .npy."""
    import numpy as np  # `clipvg --help` needs no NumPy

    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)


def to_json(value: object) -> Any:
    """Convert to plain JSON values: tuples become lists, NaN and infinities null, paths text."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if hasattr(value, "tolist"):
        return to_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def _flush(path: Path) -> None:
    """Force a file, or the entries of a folder, to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
