"""Read JSON objects one by one, from a list or one per line, and check their values.

Columns of a label that another tool's format does not know are stored in its objects under
"clipvg".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, TypeGuard

from clipvg.errors import InputError, one_line
from clipvg.runtime.files import Json

KEY = "clipvg"
_PIECE = 2**22  # characters in memory at a time, plus the object that they end in
_SPACE = re.compile(r"[ \t\n\r]*")
_KINDS = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
_DECODER = json.JSONDecoder()


def at_line(row: int, line: int) -> str:
    """Return a place in a text file: its row as counted in messages, its line as in editors."""
    return f"row {row} (line {line})"


def value_of(item: object, name: str, where: str) -> Any:
    """Return a value of what should be an object.

    Raises:
        InputError: the item is not an object, or has no such value.
    """
    if not isinstance(item, dict):
        raise InputError(f"{where}: {str(item)[:40]!r} where an object with {name!r} belongs")
    if name not in item:
        keys = ", ".join(map(str, item))[:100]
        raise InputError(f"{where}: no {name!r} in an object that has {keys or 'nothing'}")
    return item[name]


def list_of(item: object, name: str, where: str) -> list[Any]:
    """Return a list in what should be an object, see `value_of`; empty if it is null."""
    found = value_of(item, name, where)
    if found is None:
        return []
    if not isinstance(found, list | tuple):
        raise InputError(f"{where}: {name!r} is {str(found)[:40]!r}, where a list belongs")
    return [*found]


def read_lines(text: TextIO, where: str) -> Iterator[Json]:
    """Yield the objects of a text that has one per line.

    Raises:
        InputError: a line is not JSON, or not an object.
    """
    filled = ((number, line) for number, line in enumerate(text, 1) if line.strip())
    for row, (number, line) in enumerate(filled):
        place = f"{where} {at_line(row, number)}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:  # ValueError: also 5,000 digits
            raise InputError(f"{place}: not JSON ({one_line(error, 120)})") from None
        yield _object(value, place)


def read_list(text: TextIO, where: str) -> Iterator[Json]:
    """Yield the objects of a JSON list with only a few in memory; see `read_lines`."""
    window = _Window(text)
    row = 0
    try:
        window.take("[")
        while window.peek() != "]":
            line = window.line
            yield _object(window.value(), f"{where} {at_line(row, line)}")
            row += 1
            if window.peek() != "]":
                window.take(",")
                if window.peek() == "]":
                    raise _Fault("a comma behind the last object")
        window.take("]")
        window.take("")
    except _Fault as fault:
        raise InputError(f"{where} {at_line(row, window.line)}: not JSON ({fault})") from None


class _Fault(Exception):
    """A syntax error in JSON."""


class _Window:
    """The part of a text that is in memory, and the reading position in it."""

    def __init__(self, text: TextIO) -> None:
        self.line = 1  # of the reading position
        self._text = text
        self._buffer = ""
        self._place = 0

    def peek(self) -> str:
        """Return the next character that is not white space; "" at the end."""
        while True:
            found = _SPACE.match(self._buffer, self._place)
            self._move(found.end() if found else self._place)
            if self._place < len(self._buffer):
                return self._buffer[self._place]
            if not self._more(_PIECE):
                return ""

    def take(self, mark: str) -> None:
        """Go past an expected character; "" expects the end."""
        if (found := self.peek()) != mark:
            raise _Fault(f"{found or 'the end'!r} where {mark or 'the end'!r} belongs")
        self._move(self._place + len(mark))

    def value(self) -> object:
        """Return the next value, and go past it."""
        piece = _PIECE
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._place)
            except json.JSONDecodeError as error:  # it may continue after what is in memory
                fault, place = error.msg, error.pos
            except (ValueError, RecursionError) as error:
                raise _Fault(one_line(error, 120)) from None
            else:
                self._move(end)
                return value
            if not self._more(piece):
                self._move(min(place, len(self._buffer)))
                raise _Fault(fault)
            piece *= 2

    def _more(self, piece: int) -> bool:
        new = self._text.read(piece)
        if new:
            self._buffer, self._place = self._buffer[self._place :] + new, 0
        return bool(new)

    def _move(self, place: int) -> None:
        self.line += self._buffer.count("\n", self._place, place)
        self._place = place


def _object(value: object, where: str) -> Json:
    if not isinstance(value, dict):
        kind = _KINDS.get(type(value), "null")
        raise InputError(f"{where}: {kind}, expected an object with image, expression and box")
    return value


def carried(row: Json, box_format: str, known: Iterable[str]) -> tuple[list[float], Json]:
    """Return the box of a label in a format, and the label's columns to store beside it.

    These exclude known columns, which have a place of their own, and include the box as written
    if its format differs.
    """
    written, own = row.get("box") or [], row.get("box_format") or "xyxy"
    others = {name: row[name] for name in row if name not in (*known, "box", "box_format")}
    box = written
    if own != box_format and written:
        box = convert_box(written, box_format)
        others |= {"box": written, "box_format": own}
    return box, {KEY: others} if others else {}


def restored(label: Json, item: Json) -> Json:
    """Return a label that was read, with the columns that `carried` stored beside it.

    The box as originally written is used only if it equals the item's box, which may have been
    corrected since.
    """
    others = item.get(KEY)
    if not isinstance(others, dict):
        return label
    label = {**others, **{name: value for name, value in label.items() if value is not None}}
    if is_box(box := others.get("box")) and others.get("box_format") in ("xyxy", "xywh"):
        if convert_box(box, label["box_format"]) == label.get("box"):
            label |= {"box": box, "box_format": others["box_format"]}
    return label


def convert_box(box: list[float], box_format: str) -> list[float]:
    """Convert a box from the other format to this one: xyxy or xywh."""
    sign = -1 if box_format == "xywh" else 1
    return [box[0], box[1], box[2] + sign * box[0], box[3] + sign * box[1]]


def is_box(box: Any) -> TypeGuard[list[float]]:
    """Return whether a JSON value is a list of four numbers."""
    return isinstance(box, list) and len(box) == 4 and all(type(x) in (int, float) for x in box)
