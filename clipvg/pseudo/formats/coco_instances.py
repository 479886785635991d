"""COCO instances: annotated boxes, with categories and images in the same file."""

from __future__ import annotations

from collections.abc import Iterator

from clipvg.pseudo.formats.catalogue import Catalogue
from clipvg.pseudo.formats.file import File, Row, box_from_coco, image_number
from clipvg.pseudo.observation import Detection, Observation


def matches(file: File) -> bool:
    """Whether this module reads the file."""
    data = file.json
    return isinstance(data, dict) and "images" in data and "categories" in data


def read(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Yield the rows of the file: its images, then its annotations that are no crowds."""
    own = Catalogue(catalogue.root)
    own.add_coco(file.json, file.path)
    for known in own.images.values():
        yield Row("images", Observation(*known))
    for where, item in file.objects("annotation", file.json.get("annotations") or []):
        if item.get("iscrowd"):
            continue
        with file.at(where):
            known = own.image_of(image_number(item))
            name = own.class_of(item.get("category_id"))
            found = Detection(name, box_from_coco(item.get("bbox")))
            yield Row(where, Observation(*known, (found,)))
