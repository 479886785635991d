"""What travels along in formats of other tools: columns they do not know, under "clipvg"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeGuard

from clipvg.runtime.files import Json

KEY = "clipvg"


def carried(row: Json, box_format: str, known: Iterable[str]) -> tuple[list[float], Json]:
    """Return the box of a label in a format, and what to put beside it of the label's columns.

    Known columns have a place of their own.
    """
    written, own = row.get("box") or [], row.get("box_format") or "xyxy"
    others = {name: row[name] for name in row if name not in (*known, "box", "box_format")}
    box = written
    if own != box_format and written:
        box = convert_box(written, box_format)
        others |= {"box": written, "box_format": own}
    return box, {KEY: others} if others else {}


def restored(label: Json, item: Json) -> Json:
    """Return a label that was read, with what `carried` put beside it.

    The box as it was written once counts only where it is the one that the item has: it may have
    been corrected since.
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
    """Return a box of the other format in this one: xyxy or xywh."""
    sign = -1 if box_format == "xywh" else 1
    return [box[0], box[1], box[2] + sign * box[0], box[3] + sign * box[1]]


def is_box(box: Any) -> TypeGuard[list[float]]:
    """Whether JSON is four numbers."""
    return isinstance(box, list) and len(box) == 4 and all(type(x) in (int, float) for x in box)
