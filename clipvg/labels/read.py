"""Label files of every kind into one LabelTable."""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipvg.errors import InputError
from clipvg.labels.formats import find_reader
from clipvg.labels.formats.file import FOLDER, File
from clipvg.labels.formats.flickr import is_flickr
from clipvg.labels.formats.pth import PTH
from clipvg.labels.schema import WORD, Faults, normalise, rename_columns
from clipvg.labels.splits import count_splits, no_such_split, rows_of_split
from clipvg.labels.table import LabelTable
from clipvg.labels.validate import Problem, row_problems
from clipvg.runtime.gate import check_local, reading

OnError = Literal["raise", "drop"]
_CLIMBS = r"(^|[/\\])\.\.([/\\]|$)|\x00"
_OUTSIDE = r"^[/\\]|^[A-Za-z]:|" + _CLIMBS


def read_labels(
    path: str | Path | Sequence[str | Path],
    *,
    images: str | Path | None = None,
    layout: str | None = None,
    source: str | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    on_error: OnError = "raise",
    allow_outside_root: bool = False,
) -> LabelTable:
    """Read labels from one file, or several one after the other.

    Args:
        path: a file of any kind in docs/labels.md, or a pattern such as "part-*.jsonl"; also a
            folder of Parquet shards, or of Flickr30k Entities.
        images: folder that image names are relative to.
        layout: layout of .pth files: unc, unc+, gref, gref_umd, referit, flickr or mixup; None
            takes the prefix of each file's name.
        source: name of the label source, written to every row.
        split: take only the labels whose column ``split`` says so, such as "testA"; None takes all.
        columns: what a file calls a column, by its name here: {"image": "file_name"}.
        on_error: "raise" refuses a file with rows that cannot be labels (a number that is not
            finite, a reversed box, an empty expression); "drop" leaves these rows out with a
            warning and lists them in ``LabelTable.dropped``. A box that is empty or reaches
            outside the image is kept either way.
        allow_outside_root: with ``images``, take names of images that are elsewhere: absolute
            ones outside of the folder, or those that climb out of it with ``..``. Links below
            the folder are followed anyway.

    Returns:
        The labels, in file order.

    Raises:
        InputError: what is wrong, where, and what to do about it.
    """
    if on_error not in ("raise", "drop"):
        raise InputError(f"on_error={on_error!r}: choose from 'raise', 'drop'")
    paths = [path] if isinstance(path, str | Path) else list(path)
    if not paths:
        raise InputError("no label files were named")
    asked = _Asked(images, layout, split, columns or {}, on_error, allow_outside_root)
    splits: Counter[str] = Counter()
    files = [file for each in paths for file in _files(each)]
    _check_layout(layout, files)
    parts = [_read_one(file, asked, splits) for file in files]
    labels = parts[0] if len(parts) == 1 else LabelTable.concat(parts)
    if split is not None and split not in splits:
        raise InputError(f"{', '.join(map(str, paths))}: {no_such_split(split, splits)}")
    if source is not None:
        labels = labels.with_column(
            "source", pa.array([source] * len(labels), pa.string()).cast(WORD)
        )
    labels.dropped = tuple(problem for part in parts for problem in part.dropped)
    return labels


def _check_layout(layout: str | None, paths: Sequence[Path]) -> None:
    """Refuse a layout that nothing is read in."""
    if layout is not None and not any(path.suffix.lower() in PTH.endings for path in paths):
        raise InputError(
            f"layout={layout!r}: only {' and '.join(PTH.endings)} files have a layout, not "
            f"{', '.join(path.name for path in paths)}; leave it out"
        )


@dataclass(frozen=True)
class _Asked:
    """What is asked of every file; see `read_labels`."""

    images: str | Path | None
    layout: str | None
    split: str | None
    columns: Mapping[str, str]
    on_error: OnError
    allow_outside_root: bool


def _files(path: str | Path) -> list[Path]:
    """The files of a name: those that a pattern matches, or the shards of a folder of Parquet."""
    path = check_local(path)
    if path.is_dir() and not is_flickr(path):
        shards = [each for each in path.rglob("*.parquet") if not each.name.startswith((".", "_"))]
        return sorted(shards, key=_natural) or [path]
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    found = sorted(map(Path, glob.glob(str(path), recursive=True)), key=_natural)
    if not found:
        raise InputError(f"{path}: no file matches")
    return found


def _natural(path: Path) -> list[tuple[int, str]]:
    """Numbers by their value: part 10 comes after part 9."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _read_one(path: Path, asked: _Asked, splits: Counter[str]) -> LabelTable:
    """Read a file; the labels of each of its splits are counted in ``splits``."""
    file = File(path, asked.layout, asked.images)
    if file.ending != FOLDER:
        file.check()
    with reading(path, "a file of labels"):
        faults: Faults = {}
        table = rename_columns(find_reader(file)(file), asked.columns, where=str(path))
        labels = LabelTable(normalise(table, where=str(path), faults=faults), asked.images)
        keep = np.ones(len(labels), dtype=bool)
        if asked.split is not None:
            keep = rows_of_split(labels.table, asked.split, where=str(path))
            splits.update(count_splits(labels.table))
        if asked.images is not None and not asked.allow_outside_root:
            _refuse_outside(labels, keep, path, os.path.abspath(asked.images))
        problems = [each for each in _row_problems(labels, faults) if keep[each.row]]
        return _refuse(labels, keep, problems, path, asked.on_error)


def _refuse_outside(labels: LabelTable, asked: np.ndarray, path: Path, root: str) -> None:
    """Raise where the name of an image leads out of the image root."""
    names = labels.table.column("image")
    outside = pc.match_substring_regex(names, _OUTSIDE).fill_null(False)
    below = pc.starts_with(names, os.path.join(root, "")).fill_null(False)  # absolute, and in it
    climbs = pc.match_substring_regex(names, _CLIMBS).fill_null(False)
    bad = pc.and_(outside, pc.or_(pc.invert(below), climbs)).to_numpy().astype(bool)
    rows = np.flatnonzero(bad & asked)
    if len(rows):
        raise InputError(
            f"{path} row {rows[0]}: image {names[int(rows[0])].as_py()!r} leads out of the folder "
            f"of images, as {len(rows):,} names do. Write names below it, or pass "
            "--allow_outside_root (allow_outside_root=True) if you trust the file"
        )


def _row_problems(labels: LabelTable, faults: Faults) -> list[Problem]:
    """What makes rows useless, by row; those whose box is not four numbers are ``faults``."""
    problems = [Problem(row, "bad box", message, True) for row, message in faults.items()]
    problems += [
        problem
        for problem in row_problems(labels)
        if problem.kind != "box not finite" or problem.row not in faults
    ]
    return sorted(problems, key=lambda problem: problem.row)


def _refuse(
    labels: LabelTable, asked: np.ndarray, problems: list[Problem], path: Path, on_error: OnError
) -> LabelTable:
    """Return the rows asked for; raise on those that cannot be labels, or leave them out."""
    rows = sorted({problem.row for problem in problems})
    if problems and on_error == "raise":
        raise InputError(_refusal(problems, path))
    if problems:
        warnings.warn(
            f"{path}: dropped {len(rows)} of {asked.sum()} rows ({_counts(problems)})", stacklevel=3
        )
    keep = asked.copy()
    keep[rows] = False
    kept = labels if keep.all() else labels.select(keep)
    kept.dropped = tuple(problems)
    return kept


def _refusal(problems: list[Problem], path: Path) -> str:
    first = problems[0]
    others = f" {len(problems)} such findings: {_counts(problems)}." if len(problems) > 1 else ""
    return (
        f"{path} row {first.row}: {first.message}.{others} "
        f"Fix the row{'s' if others else ''} or read with on_error='drop'."
    )


def _counts(problems: list[Problem]) -> str:
    counts = Counter(problem.kind for problem in problems)
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
