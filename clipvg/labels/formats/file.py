"""Shared parts of label file formats: `Format`, `File`, and tables from rows."""

from __future__ import annotations

import gzip
import io
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from clipvg.errors import InputError, one_line
from clipvg.labels.box_column import BOX, Faults, parse_boxes
from clipvg.labels.formats.objects import read_lines, read_list
from clipvg.labels.schema import REQUIRED, check_columns, column_type
from clipvg.runtime.files import Json, atomic_path
from clipvg.runtime.gate import open_text, reading

FOLDER = "/"  # stands for the ending of a folder
PACKED = ".gz"
LINES = (".jsonl", ".ndjson")  # one object per line
_LIST = re.compile(r"\s*\[\s*[{\]]")
_HEAD = 4096  # characters that tell what JSON holds
_EXPECTED = "JSON of annotations"
_SPARSEST = 20  # most cells of a table per value in its objects,
_SPARE_CELLS = 10**7  # in addition to these


@dataclass(eq=False)
class File:
    """A file to read or to write.

    Text may be in UTF-8, UTF-16 or UTF-32, and packed with gzip.
    """

    path: Path  # the file, or a folder
    layout: str | None = None  # of a .pth file; None takes the prefix of its name
    images: str | Path | None = None  # folder that image names are relative to
    box_unit: str | None = None  # unit of its boxes, for formats that do not give one

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def ending(self) -> str:
        """The ending of the name in lower case, without .gz; "/" for a folder."""
        if self.path.is_dir():
            return FOLDER
        name = self.path.with_suffix("") if self.is_packed else self.path
        return name.suffix.lower()

    @property
    def is_packed(self) -> bool:
        """Whether the file is packed with gzip, by its name."""
        return self.path.suffix.lower() == PACKED

    @cached_property
    def content(self) -> Any:
        """The value of a JSON file, read once; None for a list of objects, or for one per line."""
        if self.ending in LINES or self._is_list:
            return None
        with self.open() as text:
            whole = text.read()
        with reading(self.path, _EXPECTED):
            try:
                return json.loads(whole)
            except json.JSONDecodeError as error:
                if error.msg != "Extra data":
                    raise
        return None

    def objects(self) -> Iterator[Json]:
        """Yield the objects of a list, of a file with one per line, or a single object.

        Raises:
            InputError: the file is not JSON, or holds something else.
        """
        if self.content is not None:
            yield self.content
            return
        with self.open() as text:
            yield from (read_list if self._is_list else read_lines)(text, str(self))

    @cached_property
    def first(self) -> Json:
        """The first object; empty if there is none."""
        found = next(self.objects(), None)
        return found if isinstance(found, dict) else {}

    @cached_property
    def _is_list(self) -> bool:
        with self.open() as text:
            return _LIST.match(text.read(_HEAD)) is not None

    def open(self, newline: str | None = None) -> AbstractContextManager[TextIO]:
        """Open the file for reading text; see `open_text`."""
        return open_text(self.path, "a file of labels", newline)

    @contextmanager
    def create(self, newline: str | None = None) -> Iterator[TextIO]:
        """Write the file atomically as UTF-8 text, packed with gzip if its name ends in .gz."""
        with atomic_path(self.path) as temporary, temporary.open("wb") as raw:
            packed = gzip.GzipFile("", "wb", 6, raw, mtime=0) if self.is_packed else raw
            with io.TextIOWrapper(packed, "utf-8", newline=newline) as out:
                yield out


@dataclass(frozen=True)
class Format:
    """A format of label files."""

    name: str  # by which it is chosen
    endings: tuple[str, ...]  # of its files, in lower case, the usual one first; "/" for folders
    read: Callable[[File], pa.Table]  # returns a table with the columns of a label table
    matches: Callable[[File], bool] = lambda file: True  # whether a file has this format
    write: Callable[[pa.Table, File], None] | None = None  # None if it is only read
    is_text: bool = True  # whether files may be packed with gzip
    lost: Callable[[pa.Table, File], Iterable[str]] = lambda table, file: ()  # columns left out
    beside: str | None = None  # another file in the same folder, which is read too


def rows_of(table: pa.Table) -> Iterator[Json]:
    """Yield the rows of a table as dictionaries, without nulls."""
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            yield {name: value for name, value in row.items() if value is not None}


def warn_left_out(counts: Mapping[str, int], where: object) -> None:
    """Warn about what a reader left out because it does not have exactly one box."""
    if counts:
        listed = " and ".join(f"{count:,} with {why}" for why, count in counts.items())
        warnings.warn(
            f"{where}: left out {listed}; a label has one expression and one box", stacklevel=3
        )


def rows_table(rows: Iterable[Json], where: object) -> pa.Table:
    """Build a table from objects; missing values are null, and columns without any are left out.

    Columns are filled row by row, so that the rows need not be in memory together.

    Raises:
        InputError: there are no rows, or a column holds values of several kinds.
    """
    columns: dict[str, list] = {}
    count = filled = 0
    for row in rows:
        filled += len(row)
        for name, value in row.items():
            if (column := columns.get(name)) is None:
                column = columns[name] = []
                check_columns(len(columns), str(where))
            if len(column) < count:
                column += [None] * (count - len(column))
            column.append(value)
        count += 1
    if not count:
        raise InputError(f"{where}: no labels in it")
    if count * len(columns) > _SPARE_CELLS + _SPARSEST * filled:
        raise InputError(
            f"{where}: {count:,} objects with {len(columns):,} different keys, most of which "
            "each lacks; is it a file of labels?"
        )
    arrays: dict[str, pa.Array] = {}
    for name in [*columns]:
        column = columns.pop(name)
        if name in REQUIRED or any(value is not None for value in column):
            arrays[name] = _column(name, column + [None] * (count - len(column)), str(where))
    return pa.table(arrays)


def _column(name: str, values: list, where: str) -> pa.Array:
    if column_type(name) == BOX:
        faults: Faults = {}
        boxes = parse_boxes(values, name=name, where=where, faults=faults)
        if not faults:
            return boxes
        # Kept as text, of which `normalise` says what is wrong.
        return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values])
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError, OverflowError) as error:
        if column_type(name) is not None:
            is_text = isinstance(error, UnicodeEncodeError)
            fault = "text that is not valid Unicode" if is_text else "values of several kinds"
            reason = one_line(error, 120)
            raise InputError(f"{where}: column {name!r} holds {fault} ({reason})") from None
        # An unknown column of mixed types is kept as JSON.
        return pa.array([None if v is None else json.dumps(v, ensure_ascii=True) for v in values])
