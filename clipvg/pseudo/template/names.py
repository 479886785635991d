"""Names of objects: the published word lists, what a name may mean, plurals, articles."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from clipvg.pseudo.words import article, is_plural
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
    """Return the kind of every garment: the first list that contains it."""
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
    """Return the group of a class: "people", "clothes" or "things"."""
    if name in people():
        return "people"
    return "clothes" if name in garments() else "things"


@cache
def attribute_words() -> list[str]:
    """Return the attributes in the order of the detector's columns."""
    return [line[0] for line in _lists()["attributes"]]


# Sex and age that a word for a person implies; "" if it leaves them open.
_PEOPLE = {
    "man": ("m", "adult"), "guy": ("m", "adult"), "male": ("m", ""), "policeman": ("m", "adult"),
    "men": ("m", "adult"), "woman": ("f", "adult"), "lady": ("f", "adult"), "she": ("f", ""),
    "mother": ("f", "adult"), "bride": ("f", "adult"), "women": ("f", "adult"),
    "ladies": ("f", "adult"), "boy": ("m", "child"), "boys": ("m", "child"),
    "girl": ("f", "child"), "girls": ("f", "child"), "child": ("", "child"),
    "kid": ("", "child"), "toddler": ("", "child"), "baby": ("", "child"),
    "children": ("", "child"), "kids": ("", "child"), "adult": ("", "adult"),
}  # fmt: skip
_SPOKEN = {"she": "woman", "male": "man", "adult": "person"}
_MASS = frozenset({"broccoli", "bread", "food", "grass", "water", "hair", "snow", "sand"})


def spoken(name: str) -> str:
    """Return the class as people say it."""
    return _SPOKEN.get(name, name.replace("_", " ").strip().lower())


def may_mean(name: str, other: str) -> bool:
    """Return whether a name may be said of an object of another name.

    It may for people of no contrary sex or age, for the same class, and for a kind of it: a wine
    glass is a glass.
    """
    if name in people() or other in people():
        if not (name in people() and other in people()):
            return False
        pairs = zip(_PEOPLE.get(name, ("", "")), _PEOPLE.get(other, ("", "")), strict=True)
        return not any(one and another and one != another for one, another in pairs)
    return name == other or name.endswith(f" {other}") or other.endswith(f" {name}")


def is_several(name: str) -> bool:
    """Return whether a name means several, or a pair."""
    last = name.split()[-1]
    return last == "couple" or is_plural(last)


def is_mass(name: str) -> bool:
    """Return whether a name is uncountable: bread, broccoli."""
    return name.split()[-1] in _MASS


def with_article(phrase: str) -> str:
    """Return a phrase with its article, if it has one: "a red hat", "an apron", "jeans"."""
    if is_several(phrase) or is_mass(phrase):
        return phrase
    return f"{article(phrase)} {phrase}"
