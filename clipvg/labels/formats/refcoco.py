"""RefCOCO as a list of records: img_id, sents and bbox."""

from __future__ import annotations

import pyarrow as pa

from clipvg.labels.formats.file import File, Format, rows_table
from clipvg.labels.formats.objects import value_of
from clipvg.runtime.files import Json


def matches(file: File) -> bool:
    """Whether a file holds a list of such records."""
    return file.first.keys() >= {"img_id", "sents", "bbox"}


def read(file: File) -> pa.Table:
    """Boxes are xywh; ``img_id`` is the stem of a COCO file name and a number."""
    rows = (_label(record, f"{file} row {i}") for i, record in enumerate(file.objects()))
    return rows_table(rows, file)


def _label(record: Json, where: str) -> Json:
    return {
        "image": f"{str(value_of(record, 'img_id', where)).rpartition('_')[0]}.jpg",
        "expression": value_of(record, "sents", where),
        "box": value_of(record, "bbox", where),
        "box_format": "xywh",
        "width": record.get("width"),
        "height": record.get("height"),
    }


REFCOCO = Format("refcoco", (".json",), read, matches)
