"""Label tables to files, whole or not at all."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from clipvg.errors import InputError
from clipvg.labels.pth import find_layout, write_pth
from clipvg.runtime.files import atomic_path

if TYPE_CHECKING:
    from clipvg.labels.table import LabelTable

WRITTEN = (".parquet", ".jsonl", ".csv", ".pth")


def write_labels(labels: LabelTable, path: str | Path, *, layout: str | None = None) -> None:
    """Write labels by suffix.

    Parquet keeps types; JSON Lines leaves out nulls; CSV writes lists as JSON; ``.pth`` is the
    published format and keeps only what it has a place for.

    Args:
        labels: the labels.
        path: a file ending in .parquet, .jsonl, .csv or .pth.
        layout: layout of a .pth file; None takes the prefix of its name.

    Raises:
        InputError: another suffix, or no layout.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITTEN:
        raise InputError(f"{path}: cannot write {suffix or 'a file without suffix'}; choose "
                         f"from {', '.join(WRITTEN)}")  # fmt: skip
    shape = find_layout(path, layout) if suffix == ".pth" else None
    with atomic_path(path) as temporary:
        if suffix == ".parquet":
            pq.write_table(labels.table, temporary, compression="zstd")
        elif suffix == ".jsonl":
            _write_jsonl(labels, temporary)
        elif suffix == ".csv":
            _write_csv(labels, temporary)
        elif shape is not None:
            write_pth(labels.table, temporary, shape)


def _write_jsonl(labels: LabelTable, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for batch in labels.table.to_batches(max_chunksize=10_000):
            for row in batch.to_pylist():
                there = {name: value for name, value in row.items() if value is not None}
                file.write(json.dumps(there, ensure_ascii=False, default=str) + "\n")


def _write_csv(labels: LabelTable, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(labels.table.column_names)
        for batch in labels.table.to_batches(max_chunksize=10_000):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                writer.writerow([_cell(value) for value in row])


def _cell(value: object) -> object:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if value is None else value
