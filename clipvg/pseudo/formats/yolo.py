"""YOLO text files, one an image: class, centre and sides as shares of the image, score."""

from __future__ import annotations

from collections.abc import Iterator

from clipvg.errors import InputError
from clipvg.pseudo.formats.catalogue import Catalogue
from clipvg.pseudo.formats.file import File, Row
from clipvg.pseudo.native import read_box, read_score
from clipvg.pseudo.observation import Detection, Observation


def read(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Yield the rows of the file; its image has the same name but for the ending."""
    with file.at("image"):
        image = catalogue.find(file.path.stem)
        size = catalogue.size(image)
    yield Row("image", Observation(image, *size))
    for number, line in file.lines():
        where = f"line {number}"
        with file.at(where):
            found = _read_line(line.split(), catalogue, size)
        yield Row(where, Observation(image, detections=(found,)))


def _read_line(words: list[str], catalogue: Catalogue, size: tuple[int, int]) -> Detection:
    if len(words) not in (5, 6):
        raise InputError(
            f"{len(words)} words; expected class, x, y, width, height and perhaps a score"
        )
    x, y, across, down = read_box(words[1:5])
    width, height = size
    box = (
        (x - across / 2) * width,
        (y - down / 2) * height,
        (x + across / 2) * width,
        (y + down / 2) * height,
    )
    score = read_score(words[5]) if len(words) == 6 else 1.0
    return Detection(catalogue.class_of(words[0]), box, score)
