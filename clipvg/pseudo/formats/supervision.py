"""The JSON that supervision's JSONSink writes: a list of boxes with x_min, y_min, x_max, y_max."""

from __future__ import annotations

from collections.abc import Iterator

from clipvg.errors import InputError
from clipvg.pseudo.formats.catalogue import Catalogue
from clipvg.pseudo.formats.file import File, Row
from clipvg.pseudo.native import read_box, read_score
from clipvg.pseudo.observation import Detection, Observation
from clipvg.runtime.files import Json

_IMAGE_KEYS = ("image", "image_name", "image_path", "file_name", "filename")


def read(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Yield the rows of the file."""
    for where, item in file.objects("entry", file.json):
        with file.at(where):
            yield Row(where, _read_item(item, catalogue))


def _read_item(item: Json, catalogue: Catalogue) -> Observation:
    image = next((item[key] for key in _IMAGE_KEYS if isinstance(item.get(key), str)), None)
    if image is None:
        raise InputError(
            "no image; write it with sink.append(detections, custom_data={'image': name})"
        )
    box = read_box([item.get(side) for side in ("x_min", "y_min", "x_max", "y_max")])
    name = item.get("class_name") or catalogue.class_of(item.get("class_id"))
    score = item.get("confidence")
    found = Detection(str(name), box, 1.0 if score in (None, "") else read_score(score))
    return Observation(image, detections=(found,))
