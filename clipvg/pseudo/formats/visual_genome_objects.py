"""Visual Genome's objects.json and attributes.json: named boxes of each image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clipvg.errors import InputError
from clipvg.pseudo.formats.catalogue import Catalogue
from clipvg.pseudo.formats.file import File, Row, box_from_sides, image_number
from clipvg.pseudo.observation import Box, Detection, Observation


def matches(file: File) -> bool:
    """Whether this module reads the file."""
    return "image_id" in file.first and bool({"objects", "attributes"} & file.first.keys())


def read(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Yield the rows of the file."""
    for where, item in file.objects("entry", file.json):
        with file.at(where):
            image = image_name(item, catalogue)
        yield Row(where, Observation(image))
        entries = item.get("objects") or item.get("attributes") or []
        for place, entry in file.objects(f"{where}, object", entries):
            with file.at(place):
                name, box = read_object(entry)
            given = entry.get("attributes") or []
            if not isinstance(given, list):
                file.fail(place, "'attributes' is not a list of words")
            words = {str(word).strip().lower(): 1.0 for word in given}
            yield Row(place, Observation(image, detections=(Detection(name, box, 1.0, words),)))


def image_name(item: dict[str, Any], catalogue: Catalogue) -> str:
    """Return the image of an entry: that of its number below the image root, else NUMBER.jpg."""
    number = image_number(item)
    return catalogue.find(number) if catalogue.root is not None else f"{number}.jpg"


def read_object(entry: Any) -> tuple[str, Box]:
    """Return the name and the box of an object.

    Raises:
        InputError: it has none.
    """
    if not isinstance(entry, dict):
        raise InputError("not an object; is the file of another kind?")
    names = entry.get("names") or [entry.get("name")]
    if not isinstance(names, list) or not isinstance(names[0], str) or not names[0].strip():
        raise InputError("no 'names' or 'name'; the object needs one")
    sides = entry.get("w", entry.get("width")), entry.get("h", entry.get("height"))
    return names[0].strip().lower(), box_from_sides(entry.get("x"), entry.get("y"), *sides)
