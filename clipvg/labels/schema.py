"""The columns of a label table and the conversion of Arrow tables to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipvg.errors import InputError, near_matches
from clipvg.labels.box_column import (
    BOX,
    Faults,
    box_array,
    boxes_of,
    decoded,
    in_words,
    is_number,
    parse_boxes,
)

Values: TypeAlias = Sequence[object] | np.ndarray | pa.Array | pa.ChunkedArray  # values of a column
WORD = pa.dictionary(pa.int32(), pa.string())
FIELDS = {
    "image": pa.string(),
    "expression": pa.string(),
    "box": BOX,
    "box_format": WORD,
    "source": WORD,
    "width": pa.int32(),
    "height": pa.int32(),
    "weight": pa.float32(),
    "truth": BOX,
}
REQUIRED = ("image", "expression", "box")
BOX_FORMATS = ("xyxy", "xywh")
RELIABILITY = "reliability."
FAULT = "clipvg.fault"  # in tables that are still to be checked: what is wrong with a row's box
MAX_COLUMNS = 1000
CORNERS = ("x1", "y1", "x2", "y2")
SIDES = ("x", "y", "w", "h")
_SHOWN = 15  # columns that an error lists
_OTHER_NAMES = {  # of columns in files of other projects, in lower case
    "image": ("file_name", "filename", "image_path", "img_path", "path", "image_id"),
    "expression": ("caption", "phrase", "sentence", "text", "description", "query", "sent"),
    "box": ("bbox", "box_2d", "bounding_box"),
}
_SIDES = (  # names of box sides in such files, and those that must be there as well
    ({"x1": "xmin", "y1": "ymin", "x2": "xmax", "y2": "ymax"}, ()),
    ({"x1": "x_min", "y1": "y_min", "x2": "x_max", "y2": "y_max"}, ()),
    ({"w": "width", "h": "height"}, ("x", "y")),
)


def check_columns(count: int, where: str) -> None:
    """Refuse a table of more than `MAX_COLUMNS` columns: tables of labels have tens."""
    if count > MAX_COLUMNS:
        raise InputError(f"{where}: more than {MAX_COLUMNS:,} columns; is it a file of labels?")


def column_type(name: str) -> pa.DataType | None:
    """Return the Arrow type of a column; None for columns the schema does not know."""
    return pa.float32() if name.startswith(RELIABILITY) else FIELDS.get(name)


def normalise(table: pa.Table, *, where: str = "labels", faults: Faults | None = None) -> pa.Table:
    """Convert a table's columns to the schema's types; columns it does not know stay as they are.

    A missing ``box`` is made from x1, y1, x2, y2 or x, y, w, h; boxes may be lists or text such as
    "[1, 2, 3, 4]".

    Args:
        table: any Arrow table.
        where: what the table was read from, for messages.
        faults: collects rows whose box is not four numbers and becomes null; None refuses them.

    Raises:
        InputError: a column is missing or has values of the wrong kind.
    """
    check_columns(table.num_columns, where)
    given = table.column_names
    table = _with_box(table, where, faults)
    if missing := [name for name in REQUIRED if name not in table.column_names]:
        raise _lacking(missing, given, where)
    columns: dict[str, pa.ChunkedArray] = {}
    for name in [*FIELDS, *(n for n in table.column_names if n not in FIELDS)]:
        if name in table.column_names:
            kind = column_type(name)
            column = table.column(name)
            if kind is not None:
                column = convert_column(column, kind, name, where, faults)
            columns[name] = column
    result = pa.table(columns)
    return result.replace_schema_metadata(table.schema.metadata)


def rename_columns(table: pa.Table, names: Mapping[str, str], *, where: str) -> pa.Table:
    """Rename columns of a table, given as new name -> name in the table.

    A column that has the new name already is replaced.

    Raises:
        InputError: the table lacks a column, or one column would get two names.
    """
    for name in names.values():
        if name not in table.column_names:
            raise InputError(
                f"{where}: no column {name!r}: {near_matches(name, table.column_names)}"
            )
    if len({*names.values()}) < len(names):
        raise InputError(f"{where}: one column cannot be two: {', '.join(names.values())}")
    taken = [name for name in names if name in table.column_names and name not in names.values()]
    table = table.drop_columns(taken)
    new = {old: name for name, old in names.items()}
    renamed = table.rename_columns([new.get(name, name) for name in table.column_names])
    return renamed.replace_schema_metadata(table.schema.metadata)


def convert_column(
    column: pa.ChunkedArray | pa.Array,
    kind: pa.DataType,
    name: str,
    where: str,
    faults: Faults | None = None,
) -> pa.ChunkedArray:
    """Convert a column to a type of the schema; InputError names the first bad row."""
    if isinstance(column, pa.Array):
        column = pa.chunked_array([column])
    if column.type == kind:
        return column
    try:
        if kind == BOX:
            return boxes_of(column, name, where, faults)
        if pa.types.is_string(column.type) and is_number(kind):
            text = pc.utf8_trim_whitespace(column)
            if pa.types.is_integer(kind):  # pandas writes 640.0 if others are missing
                text = pc.replace_substring_regex(text, r"\.0*$", "")
            column = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
        column = decoded(column)
        if kind == WORD:
            return column.cast(pa.string()).dictionary_encode().cast(WORD)
        if kind == pa.float32() and pa.types.is_floating(column.type):
            return column.cast(kind, safe=False)
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        row, shown = _first_bad(column, kind)
        raise InputError(
            f"{where}{row}: column {name!r} holds {in_words(column.type)}{shown}, expected "
            f"{in_words(kind)}; fix the value"
        ) from None


def _with_box(table: pa.Table, where: str, faults: Faults | None) -> pa.Table:
    names = set(table.column_names)
    for parts, written in ((CORNERS, "xyxy"), (SIDES, "xywh")):
        if "box" not in names and names.issuperset(parts):
            sides = [_side(table.column(p), p, where, faults) for p in parts]
            boxes = box_array(np.stack(sides, axis=1))
            table = table.drop_columns(list(parts)).append_column("box", boxes)
            if "box_format" not in names:
                table = table.append_column("box_format", pa.repeat(written, len(table)))
            return table
    return table


def _side(column: pa.ChunkedArray, name: str, where: str, faults: Faults | None) -> np.ndarray:
    """Return one side of the boxes, (N,) float64; NaN where it is not a number."""
    try:
        return convert_column(column, pa.float64(), name, where).to_numpy()
    except InputError:
        if faults is None:
            raise
    values = column.to_pylist()
    numbers = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        try:
            numbers[row] = np.nan if value is None or value == "" else float(value)
        except (TypeError, ValueError, OverflowError):
            faults.setdefault(row, f"column {name!r} holds {str(value)[:80]!r}, no number")
    return numbers


def encode_names(values: Iterable[str] | pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """Encode names as int32 codes of the distinct ones in order of appearance; null becomes ""."""
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        values = pa.array(list(values), pa.string())
    encoded = pc.fill_null(values.cast(pa.string()), "").dictionary_encode()
    return encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded


def column_of(name: str, values: Values) -> pa.Array:
    """Convert Python or NumPy values to the schema's type; NaN becomes null in floats."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    kind = column_type(name)
    if kind is None:
        return pa.array(values)
    if kind == pa.float32():
        numbers = np.asarray(values, dtype=np.float32)
        return pa.array(numbers, kind, mask=np.isnan(numbers))
    rows: list = list(values)
    if kind == BOX:
        try:
            return box_array(np.array(rows, dtype=np.float64).reshape(len(rows), 4))
        except (ValueError, TypeError):
            return parse_boxes(rows, name=name)
    return convert_column(pa.array(rows), kind, name, "labels")


def _first_bad(column: pa.ChunkedArray, kind: pa.DataType) -> tuple[str, str]:
    for row, value in enumerate(column):
        try:
            pa.chunked_array([pa.array([value.as_py()], column.type)]).cast(
                kind.value_type if kind == WORD else kind
            )
        except pa.ArrowException:
            return f" row {row}", f" ({str(value.as_py())[:60]!r})"
    return "", ""


def _lacking(missing: Sequence[str], there: Sequence[str], where: str) -> InputError:
    """Return the error for a table that lacks required columns."""
    hints = {name: near_matches(name, there) for name in missing}
    named = [
        f"{name!r} ({hint})" if hint.startswith("did you") else repr(name)
        for name, hint in hints.items()
    ]
    listed = ", ".join(there[:_SHOWN]) + (", …" if len(there) > _SHOWN else "")
    return InputError(
        f"{where}: no column {' and no column '.join(named)}; there are: {listed or 'none'}. "
        "Labels need image, expression and box (or x1, y1, x2, y2, or x, y, w, h). If it has them "
        f"under other names: clipvg labels convert --columns {_renaming(missing, there)}"
    )


def _renaming(missing: Sequence[str], there: Sequence[str]) -> str:
    """Return the value of --columns to suggest, as far as usual names tell which are meant."""
    known = {name.lower(): name for name in there}
    pairs = {}
    for name in missing:
        others = (name, *_OTHER_NAMES.get(name, ()))
        if found := next((known[other] for other in others if other in known), None):
            pairs[name] = found
    if "box" in missing and "box" not in pairs:
        for sides, besides in _SIDES:
            if known.keys() >= {*sides.values(), *besides}:
                pairs |= {name: known[other] for name, other in sides.items()}
    return " ".join(f"{name}={other}" for name, other in pairs.items()) or "image=file_name"
