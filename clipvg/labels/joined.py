"""Concatenate tables of several files, whose columns may differ in type."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa

from clipvg.errors import InputError, one_line
from clipvg.labels.box_column import decoded


def join_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """Concatenate tables; columns that a table lacks are null in its rows.

    A column that is text in some tables, as all columns of a CSV file are, and has another type in
    others takes that type if all of its text can be converted, and is text otherwise.

    Raises:
        InputError: a column's types cannot be joined.
    """
    parts = [*tables]
    for name in dict.fromkeys(name for table in tables for name in table.column_names):
        own = [i for i, table in enumerate(parts) if name in table.column_names]
        columns = _of_one_kind([parts[i].column(name) for i in own])
        for i, column in zip(own, columns, strict=True):
            if column is not parts[i].column(name):
                place = parts[i].column_names.index(name)
                parts[i] = parts[i].set_column(place, name, column)
    try:
        return pa.concat_tables(parts, promote_options="permissive").unify_dictionaries()
    except pa.ArrowException as error:
        raise InputError(
            f"these labels do not go together: {one_line(error, 200)}; give the column one type, "
            "or leave it out with drop_columns"
        ) from None


def _of_one_kind(columns: list[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    """Convert the text among columns of one name to the type of the others, or else all to text."""
    plain = [decoded(column) for column in columns]
    kinds = dict.fromkeys(column.type for column in plain)
    if pa.string() not in kinds or len({column.type for column in columns}) == 1:
        return columns
    others = [kind for kind in kinds if kind not in (pa.string(), pa.null())]
    for kind in [*_joint(others), pa.string()]:
        try:
            return [_cast(column, kind) for column in plain]
        except (pa.ArrowException, ValueError, TypeError):
            continue
    return columns


def _joint(kinds: list[pa.DataType]) -> list[pa.DataType]:
    """Return types to join columns in; after an integer a float, since pandas writes 640.0."""
    try:
        schemas = [pa.schema([("one", kind)]) for kind in kinds]
        joint = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return []
    return [joint, pa.float64()] if pa.types.is_integer(joint) else [joint]


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Convert a column to another type; nested values are JSON in text."""
    if column.type == kind:
        return column
    nested = pa.types.is_nested(kind), pa.types.is_nested(column.type)
    if any(nested) and not all(nested):
        change = json.loads if nested[0] else json.dumps
        values = [None if value is None else change(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(values, kind)])
    return column.cast(kind)
