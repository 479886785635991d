"""Labels from CSV and JSON Lines."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa

from clipvg.errors import InputError, one_line
from clipvg.labels.schema import BOX, check_columns, column_type, parse_boxes
from clipvg.runtime.files import Json

_LONGEST_CELL = 10_000_000


def read_csv(path: str | Path, *, delimiter: str = ",") -> pa.Table:
    """A CSV file with a header; every cell as text, an empty one null.

    Columns that the schema does not know stay text, so that "007" comes back as written.
    """
    csv.field_size_limit(_LONGEST_CELL)
    columns: dict[str, list[str | None]] = {}
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            for name in map(str.strip, next(reader, [])):
                if name in columns:
                    raise InputError(
                        f"{path}: column {name!r} appears twice in the header; rename one"
                    )
                columns[name] = []
                check_columns(len(columns), str(path))
            for cells in filter(None, reader):
                if len(cells) != len(columns):
                    raise InputError(
                        f"{path} line {reader.line_num}: {len(cells)} cells, but the header has "
                        f"{len(columns)}; quote cells that hold the delimiter"
                    )
                for column, cell in zip(columns.values(), cells, strict=True):
                    column.append(cell or None)
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
        except csv.Error as error:
            raise InputError(f"{path} line {reader.line_num}: {error}; check the quotes") from None
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def read_jsonl(path: str | Path) -> pa.Table:
    """A file with one JSON object a line; keys that a line lacks are null."""
    with open(path, "rb") as file:
        lines = enumerate(file, start=1)
        rows = [_object(line, f"{path} line {i}") for i, line in lines if line.strip()]
    return records_table(rows, str(path))


def records_table(rows: list[Json], where: str) -> pa.Table:
    """Objects as a table; keys that one lacks are null."""
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(row)
        check_columns(len(names), where)
    return pa.table({name: _column(name, [row.get(name) for row in rows], where) for name in names})


def _object(line: bytes, where: str) -> Json:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # ValueError: an integer of 5,000 digits, too
        raise InputError(f"{where}: not JSON ({one_line(error, 120)})") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: a {type(value).__name__}, expected an object with image, "
                         "expression and box")  # fmt: skip
    return value


def _column(name: str, values: list, where: str) -> pa.Array:
    if column_type(name) == BOX:
        return parse_boxes(values, name=name, where=where)
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError, OverflowError) as error:
        if column_type(name) is not None:
            is_text = isinstance(error, UnicodeEncodeError)
            fault = "text that is not valid Unicode" if is_text else "values of several kinds"
            reason = one_line(error, 120)
            raise InputError(f"{where}: column {name!r} holds {fault} ({reason})") from None
        # An unknown column of mixed kinds is kept as JSON.
        return pa.array([None if v is None else json.dumps(v, ensure_ascii=True) for v in values])
