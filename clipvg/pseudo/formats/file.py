"""A file to read observations from, and what one of its rows says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from clipvg.errors import InputError
from clipvg.pseudo.native import read_box
from clipvg.pseudo.observation import Box, Observation
from clipvg.runtime.files import Json
from clipvg.runtime.gate import check_file


class Row(NamedTuple):
    """What one row of a file says of one image."""

    where: str  # "line 3", "annotation 17", for errors
    observation: Observation


class File:
    """A file and its content, read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.suffix = path.suffix.lower()

    @cached_property
    def json(self) -> Any:
        """The content of a .json file; None for other files."""
        if self.suffix != ".json":
            return None
        try:
            return json.loads(self.text)
        except json.JSONDecodeError as error:
            self.fail(f"line {error.lineno}", f"not JSON ({error.msg}); is the file whole?")

    @cached_property
    def text(self) -> str:
        """The content of a text file."""
        try:
            return check_file(self.path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{self.path}: not text in UTF-8; is it of another kind?") from None

    @property
    def first(self) -> Json:
        """The first object of a JSON list; empty for any other content."""
        return first_object(self.json)

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines that are not blank, numbered from 1."""
        for number, line in enumerate(self.text.split("\n"), 1):
            if line.strip():
                yield number, line

    def objects(self, noun: str, items: object) -> Iterator[tuple[str, Json]]:
        """Yield the objects of a list in the file, each with its place: "noun 3"."""
        if not isinstance(items, list):
            self.fail(f"{noun}s", "not a list; is the file of another kind?")
        for index, item in enumerate(items):
            where = f"{noun} {index}"
            if not isinstance(item, dict):
                self.fail(where, "not an object; is the file of another kind?")
            yield where, item

    def rows(self, noun: str, items: object, read: Callable[[Json], Observation]) -> Iterator[Row]:
        """Yield what each object of a list says; errors name its place."""
        for where, item in self.objects(noun, items):
            with self.at(where):
                yield Row(where, read(item))

    def fail(self, where: str, fault: str) -> NoReturn:
        """Raise the error of a row."""
        raise InputError(f"{self.path}: {where}: {fault}") from None

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """Let errors of the block name the file and the row."""
        try:
            yield
        except InputError as error:
            self.fail(where, str(error))


def first_object(items: object) -> Json:
    """Return the first object of a list; empty where there is none."""
    first = items[0] if isinstance(items, list) and items else None
    return first if isinstance(first, dict) else {}


def image_number(item: Json) -> str:
    """Return the ``image_id`` of an entry as text; raise InputError where it has none."""
    value = item.get("image_id")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError("no 'image_id'; it says which image the entry is about")
    return str(value)


def box_from_coco(values: object) -> Box:
    """Return the corners of a COCO ``bbox``, or raise InputError."""
    if not isinstance(values, list) or len(values) != 4:
        raise InputError(f"bbox {str(values)[:60]} is not [x, y, width, height]")
    return box_from_sides(*values)


def box_from_sides(x: object, y: object, width: object, height: object) -> Box:
    """Return the corners of a box of an upper left corner and sides, or raise InputError."""
    left, top, across, down = read_box((x, y, width, height))
    return left, top, left + across, top + down
