"""Parquet from strangers: what a file says that it holds is counted before it is read.

Runs of one value, and texts that many rows share, take no room in a file and much in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipvg.runtime.gate import check_file, most_inflated, too_much

_MOST_INFLATED = 100  # times its size in memory; label files come to about thirty
_SPARE_BYTES = 2**28  # that it may hold besides
_CELL = 8  # bytes of a number, and of where a text begins
_ROWS = 2**16  # whose texts are counted at a time


def open_parquet(path: str | Path) -> pq.ParquetFile:
    """Open a Parquet file; read within `reading`.

    Raises:
        InputError: it may not be opened, or holds far more than its size explains.
    """
    checked = check_file(path)
    most = most_inflated(checked, _MOST_INFLATED, _SPARE_BYTES)
    file = pq.ParquetFile(checked)
    # The longest text of a column tells enough of usual files; only of others are all counted.
    for exactly in (False, True):
        if _count(file, checked, most, exactly=exactly) <= most:
            return file
    raise too_much(checked)


def read_parquet(path: str | Path) -> pa.Table:
    """Return the table of a Parquet file; see `open_parquet`.

    Raises:
        pa.ArrowInvalid: it is damaged: text that is no UTF-8, lists that end before they begin.
    """
    with open_parquet(path) as file:
        table = file.read()
    table.validate(full=True)
    return table


def _count(file: pq.ParquetFile, path: Path, most: int, *, exactly: bool) -> int:
    """Return how many bytes a file holds, at most; counted until they are too many."""
    size = 0
    for group in range(file.metadata.num_row_groups):
        # Of a damaged column Arrow raises an error where it is read, and ends the process where it
        # is only described.
        if next(file.iter_batches(1, row_groups=[group]), None) is None:
            continue  # no rows
        facts = file.metadata.row_group(group)
        for number in range(facts.num_columns):
            column = facts.column(number)
            width = max(_CELL, file.schema.column(number).length)  # -1 where it is not fixed
            size += max(0, column.total_uncompressed_size, width * column.num_values)
            if "DELTA_BYTE_ARRAY" in column.encodings:  # each may be the one before, and more
                size += max(0, column.total_uncompressed_size * column.num_values)
            elif column.physical_type == "BYTE_ARRAY" and column.has_dictionary_page:
                name = [column.path_in_schema]
                shared = pq.ParquetFile(path, metadata=file.metadata, read_dictionary=name)
                rows = _ROWS if exactly else 1
                with shared:
                    batches = shared.iter_batches(rows, row_groups=[group], columns=name)
                    if exactly:
                        size += _count_texts(batches, most)
                    else:
                        size += column.num_values * (_longest_text(batches) or most)
            if size > most:
                return size
    return size


def _longest_text(batches: Iterator[pa.RecordBatch]) -> int:
    """Return the length of the longest text that rows share; 0 where the first row has none."""
    texts = [each for batch in islice(batches, 1) for each in _texts(batch.column(0))]
    return max((pc.max(_lengths(each)).as_py() or 0 for each in texts), default=0)


def _count_texts(batches: Iterator[pa.RecordBatch], most: int) -> int:
    """Return how many bytes the texts of all rows have; counted until they are too many."""
    size = 0
    for texts in (each for batch in batches for each in _texts(batch.column(0))):
        size += pc.sum(_lengths(texts).take(texts.indices)).as_py() or 0
        if size > most:
            break
    return size


def _lengths(texts: pa.DictionaryArray) -> pa.Array:
    return pc.binary_length(texts.dictionary)


def _texts(array: pa.Array) -> Iterator[pa.DictionaryArray]:
    """Yield the texts of a column, whatever lists and structs they are in."""
    if pa.types.is_dictionary(array.type):
        yield array
    elif pa.types.is_nested(array.type):
        parts = array.flatten()
        for part in parts if isinstance(parts, list) else [parts]:
            yield from _texts(part)
