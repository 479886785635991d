"""Source names of labels as codes: ten million names cost forty megabytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipvg.labels import LabelTable


class SourceNames(Sequence[str]):
    """The source name of each of N labels.

    Args:
        codes: (N,) int32, number of each label's source.
        names: the distinct names in order of first appearance.
    """

    def __init__(self, codes: np.ndarray, names: Iterable[str]) -> None:
        self.codes = np.ascontiguousarray(codes, dtype=np.int32)
        self.codes.flags.writeable = False
        self.names = tuple(names)

    @classmethod
    def of(cls, values: Iterable[str] | pa.Array | pa.ChunkedArray) -> SourceNames:
        """Make it of names, Python's or Arrow's; null is "", unknown."""
        if isinstance(values, SourceNames):
            return values
        if not isinstance(values, pa.Array | pa.ChunkedArray):
            values = pa.array(list(values), pa.string())
        if pa.types.is_dictionary(values.type):
            column = values.unify_dictionaries() if hasattr(values, "chunks") else values
        else:
            column = values.cast(pa.string()).dictionary_encode()
        if isinstance(column, pa.ChunkedArray):
            if not column.num_chunks:
                return cls(np.zeros(0, np.int32), ())
            column = column.unify_dictionaries()
            chunks, words = column.chunks, column.chunk(0).dictionary
        else:
            chunks, words = [column], column.dictionary
        names = [*words.to_pylist(), ""]
        parts = [pc.fill_null(chunk.indices, len(words)).to_numpy() for chunk in chunks]
        return _in_order(np.concatenate(parts).astype(np.int32), names)

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> SourceNames: ...
    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return _in_order(self.codes[row], self.names)
        return self.names[self.codes[row]]

    def __repr__(self) -> str:
        return f"SourceNames({len(self)} labels of {list(self.names)})"

    def take(self, rows: np.ndarray) -> SourceNames:
        """Return the names of some rows: numbers or a (N,) bool mask."""
        return _in_order(self.codes[rows], self.names)

    def to_arrow(self) -> pa.Array:
        """Return the names as an Arrow column of strings."""
        return pa.DictionaryArray.from_arrays(
            pa.array(self.codes), pa.array(self.names, pa.string())
        ).cast(pa.string())


def source_names(labels: LabelTable) -> SourceNames:
    """Return the sources of labels, "" where unknown."""
    if "source" not in labels.table.column_names:
        return unknown_sources(len(labels))
    return SourceNames.of(labels.table.column("source"))


def unknown_sources(count: int) -> SourceNames:
    """Return "" for each of ``count`` labels."""
    return SourceNames(np.zeros(count, np.int32), [""] if count else [])


def _in_order(codes: np.ndarray, names: Sequence[str]) -> SourceNames:
    """Number the names in order of first appearance; equal names become one, unused none."""
    first = np.full(len(names), len(codes))
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # of several places the last written stays
    used = [k for k in np.argsort(first, kind="stable") if first[k] < len(codes)]
    distinct = {name: place for place, name in enumerate(dict.fromkeys(names[k] for k in used))}
    place = np.zeros(len(names), np.int32)
    for k in used:
        place[k] = distinct[names[k]]
    return SourceNames(place[codes], distinct)
