"""COCO: annotated boxes or captions with their images, and results, which have numbers alone.

Annotations are an object with ``images``, ``annotations`` and, for boxes, ``categories``; results
are a list of ``image_id`` with ``category_id``, ``bbox`` (xywh) and ``score``, or with ``caption``.
"""

from __future__ import annotations

from collections.abc import Iterator

from clipvg.pseudo.formats.catalogue import Catalogue, KnownImage
from clipvg.pseudo.formats.file import File, Row, box_from_coco, image_number
from clipvg.pseudo.native import read_name, read_score
from clipvg.pseudo.observation import Detection, Observation
from clipvg.runtime.files import Json


def read(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Yield the rows of the file: annotated images, then annotations that are no crowds."""
    if isinstance(file.json, list):
        for where, item in file.objects("result", file.json):
            with file.at(where):
                yield Row(where, _read_item(item, catalogue))
        return
    own = Catalogue(catalogue.root)
    own.add_coco(file.json, file.path)
    if "categories" in file.json:
        for known in own.images.values():
            yield Row("images", Observation(*known))
    for where, item in file.objects("annotation", file.json.get("annotations") or []):
        if not item.get("iscrowd"):
            with file.at(where):
                yield Row(where, _read_item(item, own))


def _read_item(item: Json, catalogue: Catalogue) -> Observation:
    if isinstance(item.get("file_name"), str):  # as ultralytics writes them
        known = KnownImage(item["file_name"], None, None)
    else:
        known = catalogue.image_of(image_number(item))
    if "caption" in item:
        return Observation(*known, captions=(read_name(item, "caption"),))
    name = catalogue.class_of(item.get("category_id"))
    found = Detection(name, box_from_coco(item.get("bbox")), read_score(item.get("score", 1.0)))
    return Observation(*known, (found,))
