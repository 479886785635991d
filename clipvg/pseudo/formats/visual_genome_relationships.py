"""Visual Genome's relationships.json: subject, predicate and object of each image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clipvg.errors import InputError
from clipvg.pseudo.formats.catalogue import Catalogue
from clipvg.pseudo.formats.file import File, Row
from clipvg.pseudo.formats.visual_genome_objects import image_name, read_object
from clipvg.pseudo.native import read_name
from clipvg.pseudo.observation import Observation, Relation


def matches(file: File) -> bool:
    """Whether this module reads the file."""
    return "image_id" in file.first and "relationships" in file.first


def read(file: File, catalogue: Catalogue) -> Iterator[Row]:
    """Yield the rows of the file."""
    for where, item in file.objects("entry", file.json):
        with file.at(where):
            image = image_name(item, catalogue)
        yield Row(where, Observation(image))
        edges = item.get("relationships") or []
        for place, edge in file.objects(f"{where}, relationship", edges):
            with file.at(place):
                yield Row(place, Observation(image, relations=(_read_edge(edge),)))


def _read_edge(edge: Any) -> Relation:
    if not isinstance(edge, dict):
        raise InputError("not an object; is the file of another kind?")
    subject, subject_box = read_object(edge.get("subject"))
    other, object_box = read_object(edge.get("object"))
    predicate = " ".join(read_name(edge, "predicate").lower().split())
    return Relation(subject, predicate, other, subject_box, object_box)
