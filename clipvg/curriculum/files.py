"""Folders and JSON files that appear whole or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clipvg.atomic import atomic_path


def replace_folder(folder: Path, fill: Callable[[Path], Any]) -> None:
    """Write a folder under a temporary name, flush every file, then put it in place.

    Args:
        folder: replaced when it exists.
        fill: writes the content into the folder it is given.
    """
    new = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    fill(new)
    for path in new.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON Lines atomically; numbers that are not finite become null."""
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(to_json(line)) + "\n" for line in lines))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON atomically; numbers that are not finite become null."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(to_json(value), indent=1) + "\n")


def write_array(path: Path, values: np.ndarray) -> None:
    """Write an array atomically, as NumPy's .npy."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)


def to_json(value: Any) -> Any:
    """Return plain JSON values: tuples become lists, NaN and infinities null, paths text."""
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
