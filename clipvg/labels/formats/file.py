"""What a format of label files is, a file to read or write, and rows made into a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from clipvg.errors import InputError, one_line
from clipvg.labels.schema import BOX, check_columns, column_type, parse_boxes
from clipvg.runtime.files import Json
from clipvg.runtime.gate import check_file, read_json

FOLDER = "/"  # the ending of a folder


class File:
    """A file to read or to write; its content is read once, when a format asks for it.

    Args:
        path: the file, or a folder.
        layout: of a .pth file; None takes the prefix of its name.
    """

    def __init__(self, path: Path, layout: str | None = None) -> None:
        self.path = path
        self.layout = layout

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def ending(self) -> str:
        """The ending of the name in lower case; "/" for a folder."""
        return FOLDER if self.path.is_dir() else self.path.suffix.lower()

    @cached_property
    def json(self) -> Any:
        """The content of a JSON file."""
        return read_json(self.path, "JSON of annotations")

    @property
    def first(self) -> Json:
        """The first object of a JSON list of objects; empty for any other content."""
        content = self.json
        is_list = isinstance(content, list) and all(isinstance(item, dict) for item in content)
        return content[0] if is_list and content else {}

    def check(self) -> Path:
        """Return the path of a file that may be opened.

        Raises:
            InputError: it may not; see `check_file`.
        """
        return check_file(self.path)


def any_file(file: File) -> bool:
    """Return True: the ending alone decides."""
    return True


@dataclass(frozen=True)
class Format:
    """A kind of label file.

    Args:
        name: to ask for it.
        endings: of its files, in lower case, the usual one first; "/" for folders.
        read: what a file holds, with the columns of a label table.
        matches: whether a file with one of these endings is of this kind.
        write: a normalised label table as a file; None where it is only read.
    """

    name: str
    endings: tuple[str, ...]
    read: Callable[[File], pa.Table]
    matches: Callable[[File], bool] = any_file
    write: Callable[[pa.Table, File], None] | None = None


def rows_table(rows: list[Json], where: object) -> pa.Table:
    """Rows that a reader made as a table; what none of them has is no column.

    Raises:
        InputError: there are no rows.
    """
    if not rows:
        raise InputError(f"{where}: no labels in it")
    there = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return records_table(there, where)


def records_table(rows: list[Json], where: object) -> pa.Table:
    """Objects as a table; keys that one lacks are null."""
    names: dict[str, None] = {}
    for row in rows:
        if not row.keys() <= names.keys():
            names |= dict.fromkeys(row)
            check_columns(len(names), str(where))
    columns = {name: _column(name, [row.get(name) for row in rows], str(where)) for name in names}
    return pa.table(columns)


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
