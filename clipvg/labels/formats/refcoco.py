"""RefCOCO as a list of records: img_id, sents and bbox."""

from __future__ import annotations

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.file import File, Format, rows_table
from clipvg.runtime.files import Json


def matches(file: File) -> bool:
    """Whether a file holds a list of such records."""
    return file.first.keys() >= {"img_id", "sents", "bbox"}


def read(file: File) -> pa.Table:
    """Boxes are xywh; ``img_id`` is the stem of a COCO file name and a number."""
    return rows_table(
        [_label(record, f"{file} row {i}") for i, record in enumerate(file.json)], file
    )


def _label(record: Json, where: str) -> Json:
    try:
        return {
            "image": f"{str(record['img_id']).rpartition('_')[0]}.jpg",
            "expression": record["sents"],
            "box": record["bbox"],
            "box_format": "xywh",
            "width": record.get("width"),
            "height": record.get("height"),
        }
    except KeyError as error:
        raise InputError(f"{where}: no {error}") from None


REFCOCO = Format("refcoco", (".json",), read, matches)
