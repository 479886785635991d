"""The published ``.pth`` label files: seven layouts, read without executing their pickles.

A file is a list with one record per label. RefCOCO family: (image, segment, box xywh, expression,
attributes); ReferIt: the same with box xyxy; Flickr30k Entities: (image, box xyxy, expression).
``mixup`` is the layout of RefCOCO for all data sets together; its segment says where the image is,
or its size. Refined files hold lists instead of tuples. ``*_bad_label_*`` has a sixth field, the
reliability; ``*_iou_result`` has (image, segment, box, expression, target, prediction,
reliability). Both have the same fields for Flickr30k.

Segment, attributes and further fields are kept as JSON in ``pth.segment``, ``pth.attributes`` and
``pth.extra``. Boxes are kept as written; numbers come back equal, whole ones as integers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeGuard

import numpy as np
import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.box_column import box_values
from clipvg.labels.formats.file import File, Format, rows_table
from clipvg.labels.schema import RELIABILITY
from clipvg.runtime.files import Json, atomic_path
from clipvg.runtime.unpickle import read_pickle


@dataclass(frozen=True)
class Layout:
    """The fields of a record, in order, and the format of its box."""

    box_format: str
    fields: tuple[str, ...]
    is_scored: bool = False  # whether records end with a reliability


_FIVE = ("image", "segment", "box", "expression", "attributes")
LAYOUTS = {
    "unc": Layout("xywh", _FIVE),
    "unc+": Layout("xywh", _FIVE),
    "gref": Layout("xywh", _FIVE),
    "gref_umd": Layout("xywh", _FIVE),
    "referit": Layout("xyxy", _FIVE),
    "flickr": Layout("xyxy", ("image", "box", "expression")),
    "mixup": Layout("xywh", _FIVE),
}
SCORED = {"_bad_label_": _FIVE, "_iou_result": _FIVE[:4]}  # fields before the scores
PUBLISHED = RELIABILITY + "published"
_FOLDERS = {  # of images, below the data root of the published code
    "flickr": "Flickr30k/flickr30k-images",
    "referit": "referit/images",
    "coco": "other/images/mscoco/images/train2014",
}
PLACEHOLDER = "useless placeholder"
_PREFIX = re.compile(r"(?:\d+_)?(unc\+|unc|gref_umd|gref|referit|flickr|mixup)(?=[_.\-]|$)")


def find_layout(path: str | Path, layout: str | None = None) -> Layout:
    """Return the layout of a name, else of a file's prefix (``unc+_train_pseudo.pth``).

    Raises:
        InputError: the layout is unknown, or none is given and the file name begins with none.
    """
    shape = LAYOUTS[layout_name(path, layout)]
    for part, fields in SCORED.items():
        if part in Path(path).name:
            return replace(shape, fields=fields, is_scored=True)
    return shape


def layout_name(path: str | Path, layout: str | None = None) -> str:
    """Return the name of the layout that `find_layout` gives."""
    if layout is None:
        match = _PREFIX.match(Path(path).name)
        layout = match.group(1) if match else None
    if layout in LAYOUTS:
        return layout
    fault = f"unknown layout {layout!r}" if layout else "its name does not say which layout it has"
    raise InputError(f"{path}: {fault}; choose --layout from {', '.join(LAYOUTS)}")


def read(file: File) -> pa.Table:
    """Return a published label file, in torch's zip or legacy format, as an Arrow table.

    Raises:
        InputError: the file is of another kind, has records of another shape, or holds anything
            that is not plain data.
    """
    shape = find_layout(file.path, file.layout)
    records = read_pickle(file.path, "a list of labels")
    if not isinstance(records, list | tuple):
        raise InputError(
            f"{file}: holds a {type(records).__name__}, not a list of labels; is it a checkpoint?"
        )
    path = str(file)
    rows = [_row(shape, record, f"{path} row {i}") for i, record in enumerate(records)]
    if is_mixup(file):
        for i, row in enumerate(rows):
            row |= _place(row["image"], records[i][1], f"{file} row {i}")
    if shape.is_scored:
        for i, row in enumerate(rows):
            row[PUBLISHED] = _reliability(records[i][-1], f"{file} row {i}")
    return rows_table(rows, file)


def write(table: pa.Table, file: File) -> None:
    """Write a table as a published label file (torch's zip format).

    Columns without a place in the layout are left out; absent segments and attributes become the
    placeholder of the published pseudo-label files.

    Raises:
        InputError: no layout is given or found in the file's name, or a reliability that the name
            requires is missing.
    """
    shape = find_layout(file.path, file.layout)
    extras = _from_json(table, "pth.extra", [])
    if shape.is_scored:
        extras = _with_reliability(table, extras, file)
    import torch

    names = table.column("image").to_pylist()
    columns = {
        "image": [name.rpartition("/")[2] for name in names] if is_mixup(file) else names,
        "expression": table.column("expression").to_pylist(),
        "box": boxes_as(table, shape.box_format),
        "segment": _from_json(table, "pth.segment", PLACEHOLDER),
        "attributes": _from_json(table, "pth.attributes", PLACEHOLDER),
    }
    rows = zip(*(columns[name] for name in shape.fields), strict=True)
    records = [(*row, *extra) for row, extra in zip(rows, extras, strict=True)]
    # torch names the archive after a path; a stream gives the same bytes under every name
    with atomic_path(file.path) as temporary, temporary.open("wb") as stream:
        torch.save(records, stream)


def _row(shape: Layout, record: object, where: str) -> Json:
    known = len(shape.fields)
    if not isinstance(record, list | tuple) or len(record) < known:
        size = f"{len(record)} fields" if isinstance(record, list | tuple) else "no fields"
        raise InputError(
            f"{where}: a record of {size}, expected ({', '.join(shape.fields)}); "
            "is the layout right?"
        )
    row: Json = {"box_format": shape.box_format}
    for name, value in zip(shape.fields, record, strict=False):
        if name == "box":
            row[name] = _box(value, where)
        elif name in ("segment", "attributes"):
            row[f"pth.{name}"] = _text_as_json(value) if type(value) is str else json.dumps(value)
        elif isinstance(value, str):
            row[name] = value
        else:
            raise InputError(
                f"{where}: {name} {str(value)[:60]!r} is not text; is the layout right?"
            )
    if record[known:]:
        row["pth.extra"] = json.dumps(record[known:])
    return row


@lru_cache(maxsize=1000)  # most files repeat one placeholder in every record
def _text_as_json(text: str) -> str:
    return json.dumps(text)


def is_mixup(file: File) -> bool:
    """Return whether a file has the layout for all data sets together."""
    return (file.layout or file.path.name.partition("_")[0]) == "mixup"


def _with_reliability(table: pa.Table, extras: list, file: File) -> list:
    """Return the further fields of each record; in such a file the last one is the reliability."""
    fields = 3 if "_iou_result" in file.path.name else 1  # target, prediction, reliability
    if fields == 1 and PUBLISHED in table.column_names:
        scores = table.column(PUBLISHED).to_pylist()
        extras = [extra or [score] for extra, score in zip(extras, scores, strict=True)]
    for row, extra in enumerate(extras):
        if len(extra) < fields or not _is_reliability(extra[-1]):
            raise InputError(
                f"{file}: files of this name end their records with a reliability, which row {row} "
                f"lacks in pth.extra or {PUBLISHED}; write to another name, or let clipvg score "
                "--refine write such files"
            )
    return extras


def _place(name: str, segment: object, where: str) -> Json:
    """Return the path of a ``mixup`` image below the published data root, and its size if known."""
    data_set = "coco" if name.startswith("COCO_") else segment
    if not isinstance(data_set, str) or data_set not in _FOLDERS:
        raise InputError(
            f"{where}: image {name!r} is not of COCO, and its second field {str(segment)[:40]!r} "
            "does not say flickr or referit"
        )
    size = segment if isinstance(segment, dict) else {}
    sides = {side: size[side] for side in ("width", "height") if side in size}
    return {"image": f"{_FOLDERS[data_set]}/{name}", **sides}


def _reliability(value: object, where: str) -> float:
    if not _is_reliability(value):
        raise InputError(
            f"{where}: its last field {str(value)[:40]!r} is not a reliability from 0 to 1, which "
            "files of this name have there"
        )
    return float(value)


def _is_reliability(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _box(value: object, where: str) -> list[float]:
    """Return a box's numbers, also from a list of one box, as made from arrays of shape (1, 4)."""
    if isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], list | tuple):
        value = value[0]
    try:
        numbers = [float(number) for number in value] if isinstance(value, list | tuple) else None
    except (TypeError, ValueError):
        numbers = None
    if numbers is None:
        raise InputError(
            f"{where}: box {str(value)[:60]!r} is not four numbers; is the layout right?"
        )
    return numbers


def boxes_as(table: pa.Table, box_format: str) -> list[list[float]]:
    """Return the boxes of a label table as a layout writes them, whole numbers as integers."""
    boxes = box_values(table.column("box")).copy()
    words = ["xyxy"] * len(table)
    if "box_format" in table.column_names:
        words = [word or "xyxy" for word in table.column("box_format").to_pylist()]
    others = np.array(words, dtype=object) != box_format
    boxes[others, 2:] += (-1 if box_format == "xywh" else 1) * boxes[others, :2]
    return [[_number(value) for value in box] for box in boxes.tolist()]


def _number(value: float) -> float:
    """Return whole numbers as integers, as the published pseudo-label files mostly have them."""
    return int(value) if value.is_integer() else value


def _from_json(table: pa.Table, name: str, absent: str | list) -> list:
    if name not in table.column_names:
        return [absent] * len(table)
    texts = table.column(name).to_pylist()
    return [absent if text is None else _pairs(json.loads(text)) for text in texts]


def _pairs(value: object) -> object:
    """Turn pairs (role, words) of attribute parses, lists in JSON, into tuples as published."""
    if isinstance(value, list):
        is_pair = len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], list)
        return tuple(value) if is_pair else [_pairs(item) for item in value]
    return value


def lost(table: pa.Table, file: File) -> list[str]:
    """Return names of the columns that a layout has no place for."""
    shape = find_layout(file.path, file.layout)
    held = {"box_format", "pth.extra", *shape.fields, *(f"pth.{name}" for name in shape.fields)}
    if shape.is_scored:
        held.add(PUBLISHED)  # it is kept in the further fields
    if is_mixup(file):
        held |= {"width", "height"}  # in the segment
    return [name for name in table.column_names if name not in held]


PTH = Format("pth", (".pth",), read, write=write, is_text=False, lost=lost)
