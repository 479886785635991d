"""Convert lists, text and arrays to columns of boxes (four float64 per row); describe columns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from clipvg.errors import InputError

Faults: TypeAlias = dict[int, str]  # what is wrong with a row's box
BOX = pa.list_(pa.float64(), 4)
_BLOCK = 16_384  # rows
_AT_ONCE = 50_000  # boxes parsed together: as lists of numbers they take ten times the memory
_KINDS = (
    (pa.types.is_string, "text"),
    (pa.types.is_large_string, "text"),
    (pa.types.is_boolean, "true or false"),
    (pa.types.is_integer, "whole numbers"),
    (pa.types.is_floating, "numbers"),
    (pa.types.is_struct, "objects"),
    (pa.types.is_nested, "lists"),
)


def boxes_of(
    column: pa.ChunkedArray, name: str, where: str, faults: Faults | None
) -> pa.ChunkedArray:
    """Convert a column of lists of numbers, or of text, to `BOX`; see `parse_boxes`."""
    column = decoded(column)
    kind = column.type
    if pa.types.is_fixed_size_list(kind) and kind.list_size == 4:
        return column.cast(BOX)
    if pa.types.is_null(kind):
        return pa.chunked_array([pa.nulls(len(column), BOX)])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.fill_null(pc.list_value_length(column), 4)
        if pc.all(pc.equal(lengths, 4), min_count=0).as_py() and is_number(kind.value_type):
            return column.cast(BOX)
    if pa.types.is_nested(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        boxes = parse_boxes(column.to_pylist(), name=name, where=where, faults=faults)
        return pa.chunked_array([boxes])
    raise InputError(f"{where}: column {name!r} holds {in_words(kind)}, not lists of four numbers")


def in_words(kind: pa.DataType) -> str:
    """Describe in words what a column of a type holds."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if kind == pa.int32():  # of the schema: integers in files have 64 bits
        return "whole numbers up to 2,147,483,647"
    return next((words for is_it, words in _KINDS if is_it(kind)), str(kind))


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decode a dictionary-encoded column; return any other as it is."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def is_number(kind: pa.DataType) -> bool:
    """Return whether a type is numeric."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def as_mask(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Convert a boolean Arrow column to (N,) bool; null becomes False."""
    return pc.fill_null(values, False).to_numpy(zero_copy_only=False).astype(bool)


def parse_boxes(
    values: list, *, name: str = "box", where: str = "labels", faults: Faults | None = None
) -> pa.Array:
    """Convert lists of four numbers, their text, or None to an Arrow array of boxes.

    Raises:
        InputError: a row is none of these; with ``faults`` it is collected and null instead.
    """
    with suppress(TypeError, ValueError, OverflowError, RecursionError):
        return box_array(_all_boxes(values))
    rows: list[list[float] | None] = []
    for row, value in enumerate(values):
        if isinstance(value, str):
            value = _box_from_text(value)
        numbers = None
        if value is not None and (numbers := _four_numbers(value)) is None:
            shown = str(values[row])[:80]
            message = f"{name} {shown!r} is not four numbers; write it as [x1, y1, x2, y2]"
            if faults is None:
                raise InputError(f"{where} row {row}: {message}")
            faults.setdefault(row, message)
        rows.append(numbers)
    return pa.array(rows, BOX)


def _all_boxes(values: list) -> np.ndarray:
    """Convert lists of four numbers, or their JSON, to (N, 4) float64; else raise ValueError."""
    boxes = np.empty((len(values), 4))
    for start in range(0, len(values), _AT_ONCE):
        some = values[start : start + _AT_ONCE]
        if all(type(value) is str and value[:1] == "[" and value[-1:] == "]" for value in some):
            some = json.loads(f"[{','.join(some)}]")  # many times faster than one by one
        if len(some) != len(boxes[start : start + _AT_ONCE]) or not all(
            type(value) is list and len(value) == 4 for value in some
        ):
            raise ValueError("not four numbers")
        boxes[start : start + _AT_ONCE] = np.array(some, dtype=np.float64)
    return boxes


def _four_numbers(value: Any) -> list[float] | None:
    if isinstance(value, str | dict):
        return None
    try:
        numbers = [float("nan") if number is None else float(number) for number in value]
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) == 4 else None


def _box_from_text(text: str) -> list | None:
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return re.sub(r"[\[\](),;]", " ", text).split()


def box_array(values: ArrayLike) -> pa.Array:
    """Convert (N, 4) numbers to an Arrow array of boxes, null where a whole row is NaN."""
    values = np.ascontiguousarray(values, dtype=np.float64).reshape(-1, 4)
    absent = np.isnan(values).all(axis=1)
    flat = pa.array(values.reshape(-1), pa.float64())
    return pa.FixedSizeListArray.from_arrays(flat, type=BOX, mask=pa.array(absent))


def box_values(column: pa.ChunkedArray) -> np.ndarray:
    """Convert a column of boxes to (N, 4) float64, NaN where null; read-only unless copied."""
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    if not column.null_count and flat:
        return (flat[0] if len(flat) == 1 else np.concatenate(flat)).reshape(-1, 4)
    values = np.full((len(column), 4), np.nan)
    if flat:
        values[as_mask(column.is_valid())] = np.concatenate(flat).reshape(-1, 4)
    return values


def is_finite(boxes: np.ndarray) -> np.ndarray:
    """Return which boxes (N, 4) have four finite numbers, (N,) bool."""
    return all_of(np.isfinite(boxes))


def all_of(rows: np.ndarray) -> np.ndarray:
    """Return ``rows.all(axis=1)`` of (N, k) bool, several times faster for a k of 2 or 4."""
    return reduce(np.logical_and, rows.T)


def any_of(rows: np.ndarray) -> np.ndarray:
    """Return ``rows.any(axis=1)`` of (N, k) bool, several times faster for a k of 2 or 4."""
    return reduce(np.logical_or, rows.T)


def in_blocks(of_rows: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """Apply a function of rows to long arrays (N, ...) block by block.

    Its intermediate results then stay in the CPU's cache; a million boxes at once take three times
    as long, mostly to allocate memory.
    """
    starts = range(0, max(len(arrays[0]), 1), _BLOCK)
    blocks = [of_rows(*(array[start : start + _BLOCK] for array in arrays)) for start in starts]
    return np.concatenate(blocks)
