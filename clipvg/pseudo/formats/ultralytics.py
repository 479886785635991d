"""The JSON of ultralytics' ``result.to_json()``, one file an image, of the image's name."""

from __future__ import annotations

from collections.abc import Iterator

from clipvg.errors import InputError
from clipvg.pseudo.formats.catalogue import Catalogue
from clipvg.pseudo.formats.file import File, Row
from clipvg.pseudo.native import read_box, read_name, read_score
from clipvg.pseudo.observation import Detection, Observation
from clipvg.runtime.files import Json


def read(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Yield the rows of the file."""
    with file.at("image"):
        image = catalogue.find(file.path.stem)
    yield Row("image", Observation(image))
    for where, item in file.objects("entry", file.json):
        with file.at(where):
            yield Row(where, Observation(image, detections=(_read_item(item),)))


def _read_item(item: Json) -> Detection:
    sides = item.get("box")
    if not isinstance(sides, dict):
        raise InputError("no 'box' with x1, y1, x2, y2; are the boxes turned ones?")
    box = read_box([sides.get(side) for side in ("x1", "y1", "x2", "y2")])
    return Detection(read_name(item, "name"), box, read_score(item.get("confidence")))
