"""What a format of label files is, a file to read or write, and rows made into a table."""

from __future__ import annotations

import gzip
import io
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO, TypeGuard

import pyarrow as pa

from clipvg.errors import InputError, one_line
from clipvg.labels.schema import BOX, Faults, check_columns, column_type, parse_boxes
from clipvg.runtime.files import Json, atomic_path
from clipvg.runtime.gate import check_content, open_text, read_bytes, reading

FOLDER = "/"  # the ending of a folder
PACKED = ".gz"
LINES = (".jsonl", ".ndjson")  # an object a line
_EXPECTED = "JSON of annotations"
_SPARSEST = 20  # cells of a table for each value that objects have,
_SPARE_CELLS = 10**7  # and these besides


class File:
    """A file to read or to write; its content is read once, when a format asks for it.

    Text may be in UTF-8, UTF-16 or UTF-32, and packed with gzip.

    Args:
        path: the file, or a folder.
        layout: of a .pth file; None takes the prefix of its name.
        images: folder that image names are relative to.
        box_unit: of its boxes, for a format that does not say; None where nobody says.
    """

    def __init__(
        self,
        path: Path,
        layout: str | None = None,
        images: str | Path | None = None,
        box_unit: str | None = None,
    ) -> None:
        self.path = path
        self.layout = layout
        self.images = images
        self.box_unit = box_unit

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def ending(self) -> str:
        """The ending of the name in lower case, before .gz; "/" for a folder."""
        if self.path.is_dir():
            return FOLDER
        name = self.path.with_suffix("") if self.is_packed else self.path
        return name.suffix.lower()

    @property
    def is_packed(self) -> bool:
        """Whether the name says that the file is packed with gzip."""
        return self.path.suffix.lower() == PACKED

    @cached_property
    def json(self) -> Any:
        """The content of a JSON file; a list of objects also where each has a line of its own."""
        with reading(self.path, _EXPECTED):
            content = read_bytes(self.path)
            try:
                return json.loads(content)
            except json.JSONDecodeError as error:
                if error.msg != "Extra data":
                    raise
        return list(self._lines())

    @cached_property
    def objects(self) -> list[Json]:
        """The objects of a file that has one a line; also of a list of objects.

        Raises:
            InputError: a line is not JSON, or no object.
        """
        try:
            return list(self._lines())
        except InputError:
            if not is_objects(content := self._json_or_none()):
                raise
            return content

    @cached_property
    def first(self) -> Json:
        """The first object of a list of objects, or of a file with one a line; empty for others."""
        if self.ending in LINES:
            try:
                return next(self._lines(), {})
            except InputError:
                content = self._json_or_none()
        else:
            content = self.json
        return content[0] if is_objects(content) and content else {}

    def open(self, newline: str | None = None) -> AbstractContextManager[TextIO]:
        """Open the file for reading text; see `open_text`."""
        return open_text(self.path, "a file of labels", newline)

    @contextmanager
    def create(self, newline: str | None = None) -> Iterator[TextIO]:
        """Write the file as text in UTF-8, whole or not at all; packed where its name says so."""
        with atomic_path(self.path) as temporary, temporary.open("wb") as raw:
            packed = gzip.GzipFile("", "wb", 6, raw, mtime=0) if self.is_packed else raw
            with io.TextIOWrapper(packed, "utf-8", newline=newline) as out:
                yield out

    def check(self) -> Path:
        """Return the path of a file that may be opened.

        Raises:
            InputError: it may not; see `check_content`.
        """
        return check_content(self.path)

    def _lines(self) -> Iterator[Json]:
        """The objects of a file that has one a line."""
        with self.open() as lines:
            filled = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
            for row, (number, line) in enumerate(filled):
                yield _object(line, f"{self} {at_line(row, number)}")

    def _json_or_none(self) -> Any:
        try:
            return self.json
        except InputError:
            return None


def is_objects(content: object) -> TypeGuard[list[Json]]:
    """Whether JSON is a list of objects."""
    return isinstance(content, list) and all(isinstance(item, dict) for item in content)


def _object(line: str, where: str) -> Json:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: an integer of 5,000 digits, too
        raise InputError(f"{where}: not JSON ({one_line(error, 120)})") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: a {type(value).__name__}, expected an object with image, "
                         "expression and box")  # fmt: skip
    return value


def nothing(table: pa.Table, file: File) -> tuple[str, ...]:
    """Return no names: a file of this format holds every column."""
    return ()


def at_line(row: int, line: int) -> str:
    """Return where a fault of a text file is: the row as all messages count, the line as editors.

    Args:
        row: from 0.
        line: from 1.
    """
    return f"row {row} (line {line})"


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
        is_text: whether files may be packed with gzip.
        lost: names of the columns that a file cannot hold.
    """

    name: str
    endings: tuple[str, ...]
    read: Callable[[File], pa.Table]
    matches: Callable[[File], bool] = any_file
    write: Callable[[pa.Table, File], None] | None = None
    is_text: bool = True
    lost: Callable[[pa.Table, File], Iterable[str]] = nothing


def rows_of(table: pa.Table) -> Iterator[Json]:
    """Yield the rows of a table, without nulls."""
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            yield {name: value for name, value in row.items() if value is not None}


def warn_left_out(counts: Mapping[str, int], where: object) -> None:
    """Say what a reader left out because it has no one box.

    Args:
        counts: number of expressions by what is wrong with them.
        where: the file.
    """
    if counts:
        listed = " and ".join(f"{count:,} with {why}" for why, count in counts.items())
        warnings.warn(
            f"{where}: left out {listed}; a label has one expression and one box", stacklevel=3
        )


def rows_table(rows: list[Json], where: object) -> pa.Table:
    """Rows that a reader made as a table; what none of them has is no column.

    Raises:
        InputError: there are no rows.
    """
    there = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return records_table(there, where)


def records_table(rows: list[Json], where: object) -> pa.Table:
    """Objects as a table; keys that one lacks are null.

    Raises:
        InputError: there are no rows, or a column holds values of several kinds.
    """
    if not rows:
        raise InputError(f"{where}: no labels in it")
    names: dict[str, None] = {}
    for row in rows:
        if not row.keys() <= names.keys():
            names |= dict.fromkeys(row)
            check_columns(len(names), str(where))
    if len(rows) * len(names) > _SPARE_CELLS + _SPARSEST * sum(map(len, rows)):
        raise InputError(
            f"{where}: {len(rows):,} objects with {len(names):,} different keys, most of which "
            "each lacks; is it a file of labels?"
        )
    columns = {name: _column(name, [row.get(name) for row in rows], str(where)) for name in names}
    return pa.table(columns)


def _column(name: str, values: list, where: str) -> pa.Array:
    if column_type(name) == BOX:
        faults: Faults = {}
        boxes = parse_boxes(values, name=name, where=where, faults=faults)
        if not faults:
            return boxes
        # Kept as text, which says what is wrong when the table is normalised.
        return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values])
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
