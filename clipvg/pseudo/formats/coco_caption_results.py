"""COCO results of a captioner: a list of image_id and caption."""

from __future__ import annotations

from collections.abc import Iterator

from clipvg.pseudo.formats.catalogue import Catalogue
from clipvg.pseudo.formats.file import File, Row, image_number
from clipvg.pseudo.native import read_name
from clipvg.pseudo.observation import Observation


def matches(file: File) -> bool:
    """Whether this module reads the file."""
    return "caption" in file.first and "image_id" in file.first


def read(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Yield the rows of the file."""
    for where, item in file.objects("result", file.json):
        with file.at(where):
            known = catalogue.image_of(image_number(item))
            yield Row(where, Observation(*known, captions=(read_name(item, "caption"),)))
