"""The word lists of the published template generator, from the package's data."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from clipvg.runtime.files import Json

GARMENT_KINDS = ("hat", "shirt", "pants", "shoes")  # in the order in which a class is looked up


@cache
def _lists() -> Json:
    path = files("clipvg.pseudo") / "data" / "words.json"
    return json.loads(path.read_text(encoding="utf-8"))


@cache
def people() -> frozenset[str]:
    """Return the classes that are people."""
    return frozenset(_lists()["people"])


@cache
def garments() -> dict[str, str]:
    """Return the kind of every garment: the first list that has it."""
    kinds: dict[str, str] = {}
    for kind in GARMENT_KINDS:
        for name in _lists()[kind]:
            kinds.setdefault(name, kind)
    return kinds


@cache
def attribute_columns() -> dict[str, tuple[int, str]]:
    """Return, for every attribute and its synonyms, its column and the word to write."""
    lines = _lists()["attributes"]
    return {name: (column, line[0]) for column, line in enumerate(lines) for name in line}


def group_of(name: str) -> str:
    """Return "people", "clothes" or "things", what a class is."""
    if name in people():
        return "people"
    return "clothes" if name in garments() else "things"


@cache
def attribute_words() -> list[str]:
    """Return the attributes in the order of the detector's columns."""
    return [line[0] for line in _lists()["attributes"]]
