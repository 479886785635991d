"""COCO captions: sentences about images, with the images in the same file."""

from __future__ import annotations

from collections.abc import Iterator

from clipvg.pseudo.formats.catalogue import Catalogue
from clipvg.pseudo.formats.file import File, Row, image_number
from clipvg.pseudo.native import read_name
from clipvg.pseudo.observation import Observation


def matches(file: File) -> bool:
    """Whether this module reads the file."""
    data = file.json
    if not isinstance(data, dict) or "images" not in data:
        return False
    annotations = data.get("annotations")
    if not isinstance(annotations, list) or not annotations:
        return False
    return isinstance(annotations[0], dict) and "caption" in annotations[0]


def read(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Yield the rows of the file."""
    own = Catalogue(catalogue.root)
    own.add_coco(file.json, file.path)
    for where, item in file.objects("annotation", file.json["annotations"]):
        with file.at(where):
            known = own.image_of(image_number(item))
            yield Row(where, Observation(*known, captions=(read_name(item, "caption"),)))
