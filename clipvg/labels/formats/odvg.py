"""ODVG, of Open-GroundingDino and MM-Grounding-DINO: one object per image, boxes xyxy.

Files have one object per line; MM-Grounding-DINO names them ``.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.coco import left_and_right, spans, spans_of
from clipvg.labels.formats.file import LINES, File, Format, rows_of, rows_table
from clipvg.labels.formats.objects import carried, is_box, restored
from clipvg.runtime.files import Json

_PARTS = ("grounding", "referring", "detection")


def matches(file: File) -> bool:
    """Return whether objects have the name of an image and one of ODVG's parts."""
    return isinstance(file.first.get("filename"), str) and any(p in file.first for p in _PARTS)


def read(file: File) -> pa.Table:
    """Return a label for each box of each phrase, and for each instance of a detection.

    If no image of the file has more than one region, as in the RefCOCO files, the expression is the
    whole caption, since the phrase is then only its head. Otherwise it is the phrase, and the
    caption is kept in column ``caption``. Instances are named like those of COCO.
    """
    counts = (len(_entries(line, "grounding", "regions")) for line in file.objects())
    single = max(counts, default=0) == 1
    rows = (
        label
        for number, line in enumerate(file.objects())
        for label in _labels(line, single, f"{file} image {number}")
    )
    return rows_table(rows, file)


def _labels(line: Json, single: bool, where: str) -> Iterator[Json]:
    """Yield the labels of an image; ``single`` means that no image has several regions."""
    if not isinstance(name := line.get("filename"), str):
        raise InputError(f"{where}: no 'filename'")
    image = {"image": name, "width": line.get("width"), "height": line.get("height")}
    for label in (*_grounding(line, single), *_referring(line), *_detection(line, where)):
        yield {**image, "box_format": "xyxy", **label}


def write(table: pa.Table, file: File) -> None:
    """Write a line for each label, with one region whose phrase is the whole caption.

    Columns that ODVG does not know are stored under "clipvg" in the region.
    """
    with file.create() as out:
        for row in rows_of(table):
            box, others = carried(row, "xyxy", ("image", "expression", "width", "height"))
            text = row.get("expression", "")
            region = {"bbox": box, "phrase": text, "tokens_positive": [[0, len(text)]], **others}
            sizes: Json = {side: row[side] for side in ("height", "width") if side in row}
            grounding = {"caption": text, "regions": [region]}
            line = {"filename": row.get("image"), **sizes, "grounding": grounding}
            out.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")


def _grounding(line: Json, single: bool) -> Iterator[Json]:
    regions = _entries(line, "grounding", "regions")
    caption = line["grounding"].get("caption") if regions else None
    for region in regions:
        phrases = _texts(region.get("phrase"))
        if not isinstance(caption, str):
            caption = None
        elif single:
            phrases = [caption]
        elif not phrases:
            phrases = spans(caption, spans_of(region.get("tokens_positive"))) or [caption]
        for phrase in phrases:
            whole = {} if phrase == caption else {"caption": caption}
            for box in _boxes(region):
                label = {**whole, "expression": phrase, "box": box, "box_format": "xyxy"}
                yield restored(label, region)


def _referring(line: Json) -> Iterator[Json]:
    """Yield a label for each expression and box of each instance."""
    for instance in _entries(line, "referring"):
        for phrase in _texts(instance.get("phrase")):
            for box in _boxes(instance):
                yield {"expression": phrase, "box": box}


def _detection(line: Json, where: str) -> Iterator[Json]:
    instances = _entries(line, "detection", "instances")
    boxes = [_boxes(instance)[0] for instance in instances]
    names = [instance.get("category") for instance in instances]
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"{where}: an instance without the name of its 'category'")
    known = [(name, box, i) for i, (name, box) in enumerate(zip(names, boxes, strict=True))]
    sides = left_and_right(
        (name, (box[0] + box[2]) / 2, i) for name, box, i in known if is_box(box)
    )
    for name, box, i in known:
        yield {"expression": f"{sides.get(i, '')} {name}".strip(), "box": box}


def _entries(line: Json, part: str, name: str | None = None) -> list[Json]:
    """Return the objects of a part; none if it is missing or malformed."""
    found = line.get(part)
    if name is not None:
        found = found.get(name) if isinstance(found, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)]


def _boxes(region: Json) -> list:
    """Return the boxes of a region, which has one box or a list of boxes."""
    box = region.get("bbox")
    nested = isinstance(box, list) and bool(box) and all(isinstance(each, list) for each in box)
    return box if nested and isinstance(box, list) else [box]


ODVG = Format("odvg", (*LINES, ".json"), read, matches, write)
