"""Damage the files of a run, and check that the run recovers or names the damaged file."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from clipvg.errors import InputError

DAMAGES = ("cut to a third", "cut to two thirds", "empty", "noise", "changed")
_KEY = re.compile("[0-9a-f]{16}")
# times, and digests that depend on them: of a stage's files (metrics hold times) and its record
_TIMES = ("seconds", "files", "check")


def spoil(path: Path, damage: str) -> None:
    """Write a file anew, damaged in one of `DAMAGES`."""
    content = path.read_bytes()
    third = len(content) // 3
    middle = bytes(byte ^ 1 for byte in content[third : third + 200])
    path.write_bytes(
        {
            "cut to a third": content[:third],
            "cut to two thirds": content[: 2 * third],
            "empty": b"",
            "noise": np.random.default_rng(0).bytes(len(content)),
            "changed": content[:third] + middle + content[third + 200 :],
        }[damage]
    )


def spoil_each(
    folder: Path,
    again: Callable[[Path], object],
    whole: Path,
    damages: Iterable[str] = DAMAGES,
    *,
    one_of_a_kind: bool = False,
) -> Counter[str]:
    """Damage each file of a run in a copy of its own, and continue the run there.

    Args:
        folder: folder of a run, finished or not.
        again: function that continues the run in a folder.
        whole: folder of the undisturbed run, to which each copy must be equal in the end, unless an
            `InputError` names the damaged file.
        damages: kinds of damage, of `DAMAGES`.
        one_of_a_kind: take only the first of the files that differ by the key of their stage.

    Returns:
        Number of copies that ended "alike", and of damaged files that were "named".
    """
    ends: Counter[str] = Counter()
    wanted, copy = read_folder(whole), folder.with_name(f"{folder.name}-damaged")
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    if one_of_a_kind:
        kinds = {_KEY.sub("", str(path.relative_to(folder))): path for path in reversed(paths)}
        paths = [*kinds.values()]
    for path in paths:
        for damage in damages:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(folder, copy)
            damaged = copy / path.relative_to(folder)
            spoil(damaged, damage)
            what = f"{path.relative_to(folder)} {damage}"
            refused = _error_of(again, copy)
            if refused:
                assert str(damaged) in refused, f"{what}: {refused}"
                assert "Delete" in refused, f"{what}: no remedy in {refused}"
            else:
                found = read_folder(copy)
                assert found.keys() == wanted.keys(), what
                unlike = [name for name, content in wanted.items() if found[name] != content]
                assert not unlike, f"{what}: {unlike} differ"
            ends["named" if refused else "alike"] += 1
    return ends


def _error_of(again: Callable[[Path], object], folder: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            again(folder)
        except InputError as error:
            return str(error)
    return ""


def read_folder(folder: Path) -> dict[str, Any]:
    """Return the contents of a run's files by name, without times."""
    return {
        str(path.relative_to(folder)): _read(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name not in {".lock", "report.html", "checkpoint.pt"}
    }


def _read(path: Path) -> Any:
    if path.suffix == ".json":
        return _without_times(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [_without_times(json.loads(line)) for line in path.read_text().splitlines()]
    return path.read_bytes()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(item) for name, item in value.items() if name not in _TIMES}
    return [_without_times(item) for item in value] if isinstance(value, list) else value
