"""Read label files of any kind into one LabelTable, and refuse rows that are not labels."""

from __future__ import annotations

import gc
import glob
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.box_column import Faults
from clipvg.labels.check.finding import Finding
from clipvg.labels.check.misread import find_misreading
from clipvg.labels.check.names import find_outside, with_plain_names
from clipvg.labels.check.rows import find_bad_rows
from clipvg.labels.formats import find_reader
from clipvg.labels.formats.file import FOLDER, File
from clipvg.labels.formats.flickr import is_flickr
from clipvg.labels.formats.pth import PTH
from clipvg.labels.schema import FAULT, WORD, normalise, rename_columns
from clipvg.labels.splits import count_splits, no_such_split, rows_of_split
from clipvg.labels.table import LabelTable
from clipvg.labels.units import BoxFormat, BoxUnit, find_sizes, read_boxes_as
from clipvg.runtime.fields import check_fields
from clipvg.runtime.gate import check_content, check_local, reading

OnError = Literal["raise", "drop", "keep"]
_OPENED = 64  # images opened for their size, to tell the format of boxes, if no column has it


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read label files where they do not say so themselves.

    Args:
        layout: layout of .pth files: unc, unc+, gref, gref_umd, referit, flickr or mixup; None
            takes the prefix of each file's name.
        columns: a file's names of columns, by their names here: {"image": "file_name"}.
        box_format: how boxes are written, whatever the files say: "xyxy", "xywh" or "cxcywh".
        box_unit: "pixel", "unit" (0 to 1) or "thousand" (0 to 1000); the latter two are turned into
            pixels by the columns ``width`` and ``height``, else by the sizes of the images.
        allow_outside_root: accept image names that lead out of the folder of images, if there is
            one: absolute paths elsewhere, or those that leave it with ``..``. Links inside the
            folder are always followed.
    """

    layout: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    box_format: BoxFormat | None = None
    box_unit: BoxUnit | None = None
    allow_outside_root: bool = False

    def __post_init__(self) -> None:
        """Refuse invalid values."""
        check_fields(self, "how labels are read")


TRUSTED = ReadOptions(allow_outside_root=True)  # for a run, which has checked its names


def read_labels(
    path: str | Path | Sequence[str | Path],
    *,
    images: str | Path | None = None,
    source: str | None = None,
    split: str | None = None,
    on_error: OnError = "raise",
    options: ReadOptions | None = None,
) -> LabelTable:
    """Read labels from one or several files, in the order of the files and their rows.

    Args:
        path: a file of any kind in docs/labels.md, or a pattern such as "part-*.jsonl"; also a
            folder of Parquet shards, or of Flickr30k Entities.
        images: folder that image names are relative to.
        source: name of the label source, written to every row.
        split: take only labels with this value in column ``split``, such as "testA"; None takes
            all.
        on_error: "raise" refuses a file with rows that cannot be labels (a number that is not
            finite, a reversed box, an empty expression); "drop" leaves these rows out with a
            warning and lists them in ``LabelTable.dropped``. A box that is empty or reaches
            outside the image is kept either way, and boxes that look like another format are
            refused either way. "keep" refuses nothing, for `check_labels`.
        options: layout, column names, format and unit of boxes, where files do not say.

    Raises:
        InputError: a file cannot be read or is refused; says what is wrong, where, and what to do.
    """
    if on_error not in get_args(OnError):
        raise InputError(f"on_error={on_error!r}: choose from 'raise', 'drop'")
    paths = [path] if isinstance(path, str | Path) else list(path)
    if not paths:
        raise InputError("no label files were named")
    options = options or ReadOptions()
    files = [file for each in paths for file in label_files(each)]
    _check_layout(options.layout, files)
    splits: Counter[str] = Counter()
    parts = [_read_one(file, images, split, on_error, options, splits) for file in files]
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
    """Refuse a layout if none of the files has one."""
    if layout is not None and not any(path.suffix.lower() in PTH.endings for path in paths):
        raise InputError(
            f"layout={layout!r}: only {' and '.join(PTH.endings)} files have a layout, not "
            f"{', '.join(path.name for path in paths)}; leave it out"
        )


def label_files(path: str | Path) -> list[Path]:
    """Return the files that a path stands for: it may be a pattern or a folder of Parquet shards.

    Raises:
        InputError: the path is a URL, or a pattern that matches no file.
    """
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
    """Return a sort key that compares numbers by value: part 10 comes after part 9."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _read_one(
    path: Path,
    images: str | Path | None,
    split: str | None,
    on_error: OnError,
    options: ReadOptions,
    splits: Counter[str],
) -> LabelTable:
    """Read a file; if ``split`` is given, count the labels of each of its splits in ``splits``."""
    with reading(path, "a file of labels"):
        faults: Faults = {}
        file = File(path, options.layout, images, options.box_unit)
        if file.ending != FOLDER:
            check_content(path)
        with _no_collection():
            table = find_reader(file)(file)
        table = rename_columns(table, options.columns, where=str(path))
        labels = LabelTable(normalise(table, where=str(path), faults=faults), images)
        if faults:
            said = pa.array([faults.get(row) for row in range(len(labels))], pa.string())
            labels = labels.with_column(FAULT, said)
        rows = np.arange(len(labels))  # rows of the file, for messages
        if split is not None:
            rows = np.flatnonzero(rows_of_split(labels.table, split, where=str(path)))
            splits.update(count_splits(labels.table))
            labels = labels.select(rows)
        is_refusing = on_error != "keep"
        if is_refusing and not options.allow_outside_root:
            refuse_outside(labels, path, rows)
        labels = with_plain_names(labels, backslashes=is_refusing, where=path)
        where = str(path) if on_error == "raise" else None
        labels = read_boxes_as(labels, options.box_format, options.box_unit, where=where)
        if is_refusing:
            is_said = options.box_format is not None or options.box_unit is not None
            refuse_misread(labels, path, rows, warn=is_said)
        return refuse_bad_rows(labels, path, rows, on_error)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause garbage collection: rows have no cycles, and it would visit them again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def refuse_outside(
    labels: LabelTable,
    path: Path,
    rows: np.ndarray,
    otherwise: str = "allow_outside_root=True if you trust the file",
) -> None:
    """Raise if the name of an image leads out of the image root; rows are numbered by ``rows``."""
    if labels.images is None:
        return
    outside = np.flatnonzero(find_outside(labels, os.path.abspath(labels.images)))
    if len(outside):
        name = labels.table.column("image")[int(outside[0])].as_py()
        raise InputError(
            f"{path} row {rows[outside[0]]}: image {name!r} leads out of the folder of images (so "
            f"many do: {len(outside):,}). Write names below it, or pass {otherwise}"
        )


def refuse_misread(labels: LabelTable, path: Path, rows: np.ndarray, *, warn: bool) -> None:
    """Raise if boxes look like those of another format or unit, or warn; see `refuse_outside`.

    A warning is enough if the user has given the format or unit, and so knows best.
    """
    sizes = labels.sizes() if labels.images is None else find_sizes(labels, most=_OPENED)
    for found in find_misreading(labels, sizes):
        message = f"{path}: {found.numbered(rows).message}"
        if not warn:
            raise InputError(message)
        warnings.warn(message, stacklevel=5)


def refuse_bad_rows(
    labels: LabelTable, path: Path, rows: np.ndarray, on_error: OnError
) -> LabelTable:
    """Raise on rows that cannot be labels, or drop them with a warning; see `refuse_outside`."""
    if on_error == "keep":
        return labels
    findings = sorted(find_bad_rows(labels), key=lambda found: found.rows[0])
    labels = labels.drop_columns(FAULT)
    if not findings:
        return labels
    numbered = [found.numbered(rows) for found in findings]
    if on_error == "raise":
        raise InputError(_refusal(numbered, path))
    bad = np.unique(np.concatenate([found.rows for found in findings]))
    warnings.warn(
        f"{path}: dropped {len(bad)} of {len(labels)} rows ({_counts(findings)})", stacklevel=5
    )
    kept = labels.select(np.setdiff1d(np.arange(len(labels)), bad))
    kept.dropped = tuple(numbered)
    return kept


def _refusal(findings: list[Finding], path: Path) -> str:
    first, count = findings[0], sum(found.count for found in findings)
    others = f" {count} such findings: {_counts(findings)}." if count > 1 else ""
    remedy = first.remedy if others else first.remedy.replace("the rows", "the row")
    return f"{path} {first.places[0]}: {first.examples[0]}.{others} {remedy}"


def _counts(findings: list[Finding]) -> str:
    ordered = sorted(findings, key=lambda found: -found.count)
    return ", ".join(f"{found.count} {found.kind}" for found in ordered)
