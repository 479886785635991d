"""Merge the labels of several files into one table, keeping exact duplicates once."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipvg.labels.box_column import BOX, box_values, decoded
from clipvg.labels.schema import WORD
from clipvg.labels.splits import SPLIT
from clipvg.labels.table import LabelTable

FILE = "file"
_SAME = ("image", "expression", "source", SPLIT)  # and the box: rows equal in these are one label


def merge_labels(tables: Sequence[LabelTable], files: Sequence[str]) -> LabelTable:
    """Merge tables, keeping exact duplicates once, in order of first appearance.

    Rows are one label if image, expression, box, source and split are equal, however the box is
    written. Other columns keep the first value that any of the rows has; a warning counts rows with
    other values. Column ``file`` lists the files that a label was in, separated by commas; names
    that are there already are kept.
    """
    named = [_with_file(labels, file) for labels, file in zip(tables, files, strict=True)]
    labels = LabelTable.concat(named)
    if not len(labels):
        return labels
    group, first = _distinct(_same_label(labels))
    if len(first) == len(labels):
        return labels
    columns: dict[str, pa.ChunkedArray] = {}
    conflicts: dict[str, int] = {}
    for name in labels.table.column_names:
        column = labels.table.column(name)
        if name == FILE:
            columns[name] = _joined(column, group, first)
        elif name in (*_SAME, "box", "box_format"):  # equivalent in all rows of a label
            columns[name] = column.take(pa.array(first))
        else:
            rows, others = _first_values(column, group, first)
            columns[name] = column.take(pa.array(rows))
            conflicts |= {name: others} if others else {}
    if conflicts:
        listed = ", ".join(f"{name} ({count:,})" for name, count in conflicts.items())
        warnings.warn(
            f"rows that repeat a label have other values than the first, which stay: {listed}",
            stacklevel=2,
        )
    metadata = labels.table.schema.metadata
    return labels.with_table(pa.table(columns).replace_schema_metadata(metadata))


def _with_file(labels: LabelTable, file: str) -> LabelTable:
    column = pa.chunked_array([pa.repeat(file, len(labels))])
    if FILE in labels.table.column_names:
        column = pc.coalesce(labels.table.column(FILE).cast(pa.string()), column)
    return labels.with_column(FILE, column.cast(WORD))


def _same_label(labels: LabelTable) -> list[np.ndarray]:
    """Return codes, (N,) int64 each, which are all equal between rows that are one label."""
    names = [name for name in _SAME if name in labels.table.column_names]
    corners = (labels.boxes() + 0.0).view(np.int32).T  # as bits; adding 0 turns -0 into 0
    return [*(_codes(labels.table.column(name)) for name in names), *map(_numbered, corners)]


def _distinct(keys: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the group (N,) of each row, by equal keys, and the first row (U,) of each group."""
    group = np.zeros(len(keys[0]), np.int64)
    for key in keys:
        group = _numbered(group * (int(key.max()) + 1) + key)
    # Groups are numbered in order of appearance: a new maximum is the first row of a group.
    first = np.flatnonzero(np.diff(np.maximum.accumulate(group), prepend=-1))
    return group, first


def _first_values(
    column: pa.ChunkedArray, group: np.ndarray, first: np.ndarray
) -> tuple[np.ndarray, int]:
    """Return the row (U,) of each group's first non-null value, and how many later ones differ."""
    valid = np.flatnonzero(column.is_valid().to_numpy())
    rows = first.copy()
    groups, at = np.unique(group[valid], return_index=True)
    rows[groups] = valid[at]
    codes = _codes(column)
    return rows, int((codes[valid] != codes[rows[group[valid]]]).sum())


def _joined(files: pa.ChunkedArray, group: np.ndarray, first: np.ndarray) -> pa.ChunkedArray:
    """Return the names of all files of each group, separated by commas."""
    words = files.cast(pa.string()).to_numpy()
    found = dict.fromkeys(zip(group.tolist(), words, strict=True))
    several: dict[int, list[str]] = {}
    joined = words[first]
    for each, word in found:
        several.setdefault(each, []).append(word)
    for each, names in several.items():
        if len(names) > 1:
            joined[each] = ", ".join(dict.fromkeys(", ".join(names).split(", ")))
    return pa.chunked_array([pa.array(joined, pa.string()).cast(WORD)])


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """Return codes (N,) int64 of values, equal for equal values."""
    column = decoded(column)
    if column.type == BOX:
        return _distinct([_numbered(side) for side in box_values(column).view(np.int64).T])[0]
    if pa.types.is_nested(column.type):
        column = pa.chunked_array(
            [[json.dumps(value, default=str) for value in column.to_pylist()]]
        )
    return _numbered(column)


def _numbered(values: np.ndarray | pa.ChunkedArray) -> np.ndarray:
    """Return the index (N,) int64 of each value among the distinct ones in order of appearance."""
    column = pa.chunked_array([values]) if isinstance(values, np.ndarray) else values
    encoded = column.dictionary_encode(null_encoding="encode").combine_chunks()
    return encoded.indices.to_numpy().astype(np.int64)
