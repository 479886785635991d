"""Pseudo-Q's detection files (.pth, .npy): image -> [class, [x1, y1, x2, y2, score], attributes].

Entries with the 400 probabilities of attributes are of its second detector. Only plain data is
read; nothing of the file is run.
"""

from __future__ import annotations

from collections.abc import Iterator

from clipvg.errors import InputError
from clipvg.pseudo.formats.catalogue import Catalogue
from clipvg.pseudo.formats.file import File, Row
from clipvg.pseudo.native import read_box, read_score
from clipvg.pseudo.observation import Detection, Observation
from clipvg.pseudo.template.vocabulary import attribute_words
from clipvg.runtime.unpickle import read_pickle


def read(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Yield the rows of the file."""
    data = read_pickle(file.path, "detections by image")
    if not isinstance(data, dict):
        raise InputError(
            f"{file.path}: holds a {type(data).__name__}, not detections by image; is it a file "
            "of labels?"
        )
    for image, entries in data.items():
        yield Row(f"image {image!r}", Observation(str(image)))
        if not isinstance(entries, list | tuple):
            file.fail(f"image {image!r}", "not a list of detections; is it another kind of file?")
        for index, entry in enumerate(entries):
            where = f"image {image!r}, entry {index}"
            with file.at(where):
                yield Row(where, _read_entry(str(image), entry))


def _read_entry(image: str, entry: object) -> Observation:
    if not isinstance(entry, list | tuple) or len(entry) not in (2, 3):
        raise InputError("not [class, [x1, y1, x2, y2, score], attributes]")
    name, numbers = entry[0], entry[1]
    if not isinstance(name, str) or not isinstance(numbers, list | tuple) or len(numbers) != 5:
        raise InputError("not [class, [x1, y1, x2, y2, score], attributes]")
    box, score = read_box(numbers[:4]), read_score(numbers[4])
    if len(entry) == 2:
        return Observation(image, detections=(Detection(name, box, score),))
    words = attribute_words()
    if not isinstance(entry[2], list) or len(entry[2]) != len(words):
        raise InputError(f"not {len(words)} probabilities of attributes")
    likely = {word: p for word, p in zip(words, entry[2], strict=True) if p > 0}
    return Observation(image, attribute_detections=(Detection(name, box, score, likely),))
