"""Visual Genome: objects.json and attributes.json, named boxes; relationships.json, their graph."""

from __future__ import annotations

from collections.abc import Iterator

from clipvg.errors import InputError
from clipvg.pseudo.formats.catalogue import Catalogue
from clipvg.pseudo.formats.file import File, Row, box_from_sides, image_number
from clipvg.pseudo.native import read_name
from clipvg.pseudo.observation import Box, Detection, Observation, Relation
from clipvg.runtime.files import Json


def read(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Yield the rows of the file."""
    for where, item in file.objects("entry", file.json):
        with file.at(where):
            image = _image_name(item, catalogue)
        yield Row(where, Observation(image))
        entries = item.get("objects") or item.get("attributes") or []
        for place, entry in file.objects(f"{where}, object", entries):
            with file.at(place):
                yield Row(place, Observation(image, detections=(_read_detection(entry),)))
        edges = item.get("relationships") or []
        for place, edge in file.objects(f"{where}, relationship", edges):
            with file.at(place):
                yield Row(place, Observation(image, relations=(_read_edge(edge),)))


def _image_name(item: Json, catalogue: Catalogue) -> str:
    """The image of an entry: that of its number below the image root, else NUMBER.jpg."""
    number = image_number(item)
    return catalogue.find(number) if catalogue.root is not None else f"{number}.jpg"


def _read_detection(entry: Json) -> Detection:
    given = entry.get("attributes") or []
    if not isinstance(given, list):
        raise InputError("'attributes' is not a list of words")
    name, box = _read_object(entry)
    return Detection(name, box, 1.0, {str(word).strip().lower(): 1.0 for word in given})


def _read_edge(edge: Json) -> Relation:
    subject, subject_box = _read_object(edge.get("subject"))
    other, object_box = _read_object(edge.get("object"))
    predicate = " ".join(read_name(edge, "predicate").lower().split())
    return Relation(subject, predicate, other, subject_box, object_box)


def _read_object(entry: object) -> tuple[str, Box]:
    """The name and the box of an object."""
    if not isinstance(entry, dict):
        raise InputError("not an object; is the file of another kind?")
    names = entry.get("names") or [entry.get("name")]
    if not isinstance(names, list) or not isinstance(names[0], str) or not names[0].strip():
        raise InputError("no 'names' or 'name'; the object needs one")
    sides = entry.get("w", entry.get("width")), entry.get("h", entry.get("height"))
    return names[0].strip().lower(), box_from_sides(entry.get("x"), entry.get("y"), *sides)
