"""A data-frame interface to an Arrow table: indexing, iteration, filters, sorting, exchange."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from clipvg.errors import InputError, MissingExtraError, near_matches, one_line
from clipvg.labels.box_column import decoded, is_number
from clipvg.labels.schema import RELIABILITY
from clipvg.runtime.files import Json

if TYPE_CHECKING:
    import pandas

_SHOWN = 10  # rows in a notebook
_CONDITION = re.compile(r"\s*([^<>=!]+?)\s*(>=|<=|==|!=|>|<)\s*(.+?)\s*", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_COMPARE = {
    ">=": pc.greater_equal,
    "<=": pc.less_equal,
    ">": pc.greater,
    "<": pc.less,
    "==": pc.equal,
    "!=": pc.not_equal,
}


class ArrowStream(Protocol):
    """A table of any library that speaks Arrow: pyarrow, Polars, DuckDB, pandas from 2.2."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the capsule of the Arrow C stream."""
        ...


class Frame:
    """Data-frame methods of a table; a subclass defines what its rows are.

    ``frame["column"]`` is an Arrow column, ``frame[3]`` a row as a dictionary; ``frame[10:20]``, a
    mask or a list of row numbers gives those rows as a frame.
    """

    table: pa.Table

    def with_table(self, table: pa.Table) -> Self:
        """Return a frame of the same kind with another table."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.table.num_rows

    @overload
    def __getitem__(self, key: str) -> pa.ChunkedArray: ...
    @overload
    def __getitem__(self, key: int) -> Json: ...
    @overload
    def __getitem__(self, key: slice | ArrayLike) -> Self: ...
    def __getitem__(self, key: str | int | slice | ArrayLike) -> pa.ChunkedArray | Json | Self:
        if isinstance(key, str):
            return self.table.column(self.column_name(key))
        if isinstance(key, int | np.integer):
            if not -len(self) <= key < len(self):
                raise IndexError(f"row {key} of {len(self)}")
            return self.table.slice(int(key) % len(self), 1).to_pylist()[0]
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return self.with_table(self.table.slice(start, max(stop - start, 0)))
            return self.select(np.arange(start, stop, step))
        rows = np.asarray(key)
        if rows.dtype.kind == "i":
            rows = np.where(rows < 0, rows + len(self), rows)
        return self.select(rows)

    def __iter__(self) -> Iterator[Json]:
        for batch in self.table.to_batches(max_chunksize=1000):
            yield from batch.to_pylist()

    def select(self, rows: ArrayLike) -> Self:
        """Return the rows of a boolean mask (N,), or of indices from 0, in the order given.

        Raises:
            InputError: the mask has another length, or an index is not a row.
        """
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise InputError(f"mask of shape {rows.shape} for {len(self)} labels")
            rows = np.flatnonzero(rows)
        if rows.size and (rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= len(self)):
            raise InputError(f"indices {rows.min()} to {rows.max()} for {len(self)} labels: "
                             "expected whole numbers from 0")  # fmt: skip
        return self.with_table(self.table.take(pa.array(rows.astype(np.int64))))

    def filter(self, *conditions: str | pc.Expression) -> Self:
        """Return the rows that meet every condition; nulls meet none.

        Args:
            conditions: strings such as "template>=0.5", "source==caption" or "width<640", where the
                name of a measurer stands for its column ``reliability.NAME``; or expressions of
                ``pyarrow.compute``.

        Raises:
            InputError: a string is no condition, names no column, or compares unlike types.

        Example:
            >>> len(labels.filter("source==template", "expression!=sky")) < len(labels)
            True
        """
        table = self.table
        for condition in conditions:
            if isinstance(condition, str):
                table = table.filter(_fulfils(self.with_table(table), condition))
            else:
                table = table.filter(condition)
        return self.with_table(table)

    def sort_by(self, column: str, *, descending: bool = False) -> Self:
        """Return the rows sorted by a column, nulls last; equal ones stay in their order.

        Raises:
            InputError: there is no such column, or its values have no order.
        """
        values = _as_numbers(decoded(self[column]))
        try:
            order = "descending" if descending else "ascending"
            rows = pc.sort_indices(pa.table({"by": values}), sort_keys=[("by", order)])
        except pa.ArrowException as error:
            raise InputError(f"column {column!r} has no order ({one_line(error, 80)})") from None
        return self.with_table(self.table.take(rows))

    def column_name(self, name: str) -> str:
        """Return the full name of a column; a measurer's name stands for ``reliability.NAME``.

        Raises:
            InputError: there is no such column.
        """
        names = self.table.column_names
        for each in (name, RELIABILITY + name):
            if each in names:
                return each
        known = [each.removeprefix(RELIABILITY) for each in names]
        raise InputError(f"no column {name!r}: {near_matches(name, known)}")

    def to_pandas(self) -> pandas.DataFrame:
        """Return a pandas data frame; boxes are arrays of four numbers, as written.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            return self.table.to_pandas()
        except ImportError as error:
            raise MissingExtraError("to_pandas needs pandas: pip install pandas") from error

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Hand the table to any library that speaks Arrow, without a copy."""
        return self.table.__arrow_c_stream__(requested_schema)

    def _repr_html_(self) -> str:
        """Return the first rows as an HTML table, for notebooks."""
        names = self.table.column_names
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        rows = [
            "".join(f"<td>{html.escape(_cell(row[name]))}</td>" for name in names)
            for row in self.table.slice(0, _SHOWN).to_pylist()
        ]
        body = "".join(f"<tr><th>{i}</th>{cells}</tr>" for i, cells in enumerate(rows))
        more = f"<p>… {len(self) - _SHOWN:,} more rows</p>" if len(self) > _SHOWN else ""
        return (
            f"<p>{html.escape(repr(self))}</p>"
            f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
        )


def as_table(table: pa.Table | ArrowStream) -> pa.Table:
    """Convert a table of any library that speaks Arrow, or raise InputError."""
    try:
        return _without_views(table if isinstance(table, pa.Table) else pa.table(table))
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise InputError(
            f"a {type(table).__name__} is not a table of labels; pass an Arrow table, or a data "
            f"frame that speaks Arrow ({one_line(error, 80)})"
        ) from None


def _without_views(table: pa.Table) -> pa.Table:
    """Return a table with plain strings in place of the string views that Polars uses."""
    for place, field in enumerate(table.schema):
        plain = _without_view(field.type)
        if plain != field.type:  # a cast copies columns of lists, and not every type supports it
            column = table.column(place).cast(plain)
            table = table.set_column(place, field.with_type(plain), column)
    return table


def _without_view(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _without_view(kind.value_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _without_view(kind.value_type)
        return kind if inner == kind.value_type else pa.list_(inner)
    return kind


def _fulfils(frame: Frame, condition: str) -> pa.ChunkedArray:
    """Return which rows meet a condition such as "template>=0.5"."""
    parts = _CONDITION.fullmatch(condition)
    if parts is None:
        raise InputError(
            f"{condition!r} is not a condition; write NAME>=NUMBER, or one of "
            f"{' '.join(_COMPARE)} between a column and a value"
        )
    name, sign, text = parts.groups()
    column = decoded(frame[name])
    value: str | float = text.strip("'\"")
    if sign not in ("==", "!="):
        column = _as_numbers(column)
        if pa.types.is_string(column.type) and _NUMBER.fullmatch(text):
            raise InputError(
                f"{condition!r}: column {name!r} holds text that is not all numbers; compare it "
                "with == or !="
            )
    if is_number(column.type):
        try:
            value = float(text)
        except ValueError:
            raise InputError(
                f"{condition!r}: column {name!r} holds {column.type}, and {text!r} is not a number"
            ) from None
    try:
        return _COMPARE[sign](column, value)
    except (pa.ArrowException, TypeError):
        raise InputError(f"{condition!r}: column {name!r} holds {column.type}") from None


def _as_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert a text column to numbers if all of it is numeric, as in a table read from CSV."""
    if pa.types.is_string(column.type) and column.null_count < len(column):
        with suppress(pa.ArrowInvalid):
            return column.cast(pa.float64())
    return column


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return f"({', '.join(map(_cell, value))})"
    return "" if value is None else str(value)
