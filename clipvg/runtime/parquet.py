"""Read untrusted Parquet files, whose size in memory is checked before they are read whole.

Runs of one value, and texts that many rows share, take no space in a file but much in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipvg.runtime.gate import check_file, most_inflated, too_much

_MOST_INFLATED = 100  # times its size in memory; label files reach about thirty
_SPARE_BYTES = 2**28  # that it may hold in addition
_CELL = 8  # bytes of a number, and of a text's offset
_ROWS = 2**16  # whose texts are counted at a time


def open_parquet(path: str | Path) -> pq.ParquetFile:
    """Open a Parquet file; read within `reading`.

    Raises:
        InputError: the file may not be opened, or holds far more than its size explains.
    """
    checked = check_file(path)
    most = most_inflated(checked, _MOST_INFLATED, _SPARE_BYTES)
    file = pq.ParquetFile(checked)
    # For usual files the longest text of a column is enough to tell; for others, count all texts.
    for exactly in (False, True):
        if _count(file, checked, most, exactly=exactly) <= most:
            return file
    raise too_much(checked)


def read_parquet(path: str | Path) -> pa.Table:
    """Return the table of a Parquet file; see `open_parquet`.

    Raises:
        pa.ArrowInvalid: the file is damaged, such as by text that is not UTF-8 or lists that end
            before they begin.
    """
    with open_parquet(path) as file:
        table = file.read()
    table.validate(full=True)
    return table


def _count(file: pq.ParquetFile, path: Path, most: int, *, exactly: bool) -> int:
    """Return an upper bound on the bytes a file holds, counted until they are too many."""
    size = 0
    for group in range(file.metadata.num_row_groups):
        # Read a row first: for a damaged column Arrow raises an error when it is read, but crashes
        # when it is only described.
        if next(file.iter_batches(1, row_groups=[group]), None) is None:
            continue  # no rows
        facts = file.metadata.row_group(group)
        for number in range(facts.num_columns):
            column = facts.column(number)
            width = max(_CELL, file.schema.column(number).length)  # -1 if it is not fixed
            size += max(0, column.total_uncompressed_size, width * column.num_values)
            if "DELTA_BYTE_ARRAY" in column.encodings:  # each may extend the one before
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
    """Return the length of the longest text that rows share; 0 if the first row has none."""
    texts = [each for batch in islice(batches, 1) for each in _texts(batch.column(0))]
    return max((pc.max(_lengths(each)).as_py() or 0 for each in texts), default=0)


def _count_texts(batches: Iterator[pa.RecordBatch], most: int) -> int:
    """Return how many bytes the texts of all rows have, counted until they are too many."""
    size = 0
    for texts in (each for batch in batches for each in _texts(batch.column(0))):
        size += pc.sum(_lengths(texts).take(texts.indices)).as_py() or 0
        if size > most:
            break
    return size


def _lengths(texts: pa.DictionaryArray) -> pa.Array:
    return pc.binary_length(texts.dictionary)


def _texts(array: pa.Array) -> Iterator[pa.DictionaryArray]:
    """Yield the texts of a column, also inside lists and structs."""
    if pa.types.is_dictionary(array.type):
        yield array
    elif pa.types.is_nested(array.type):
        parts = array.flatten()
        for part in parts if isinstance(parts, list) else [parts]:
            yield from _texts(part)
