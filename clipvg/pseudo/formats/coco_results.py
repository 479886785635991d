"""COCO results of a detector: a list of image_id, category_id, bbox (xywh) and score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clipvg.pseudo.formats.catalogue import Catalogue, KnownImage
from clipvg.pseudo.formats.file import File, Row, box_from_coco, image_number
from clipvg.pseudo.native import read_score
from clipvg.pseudo.observation import Detection, Observation


def matches(file: File) -> bool:
    """Whether this module reads the file."""
    return "bbox" in file.first and "category_id" in file.first


def read(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Yield the rows of the file."""
    for where, item in file.objects("result", file.json):
        with file.at(where):
            yield Row(where, _read_item(item, catalogue))


def _read_item(item: dict[str, Any], catalogue: Catalogue) -> Observation:
    if isinstance(item.get("file_name"), str):  # as ultralytics writes them
        known = KnownImage(item["file_name"], None, None)
    else:
        known = catalogue.image_of(image_number(item))
    name = catalogue.class_of(item.get("category_id"))
    found = Detection(name, box_from_coco(item.get("bbox")), read_score(item.get("score", 1.0)))
    return Observation(*known, (found,))
