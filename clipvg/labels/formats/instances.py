"""Parse COCO's images, annotations and categories by id, and make image names from numbers.

Ids are whole numbers or text of any length; they may be repeated or missing where nothing needs
them.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from clipvg.errors import InputError
from clipvg.runtime.files import Json

_INTEGERS = 2**63  # ids below this stay numbers
_OF_TARGET = re.compile(r"(COCO_[a-z]+\d+_\d{12})_\d+(\.\w+)$")


def coco_parts(
    content: object, where: object
) -> tuple[dict[str, Json], list[Json], dict[str, str]]:
    """Return images by id, annotations, and category names by id."""
    if not isinstance(content, dict):
        raise InputError(f"{where}: not COCO instances (no object with 'images')")
    parts: dict[str, list[Json]] = {}
    for name in ("images", "annotations", "categories"):
        entries = content.get(name, [] if name == "categories" else None)
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise InputError(f"{where}: not COCO instances ({name!r} is missing, or not a list)")
        parts[name] = entries
    images = by_id(parts["images"], "images", ("file_name", "caption"), where)
    names = by_id(parts["categories"], "categories", ("name",), where)
    return images, parts["annotations"], {key: str(each.get("name")) for key, each in names.items()}


def by_id(entries: list[Json], noun: str, keys: tuple[str, ...], where: object) -> dict[str, Json]:
    """Return entries by id; entries may repeat if they are equal in ``keys``.

    Raises:
        InputError: two entries with the same id differ, so that references to it are ambiguous.
    """
    found: dict[str, Json] = {}
    for entry in entries:
        known = found.setdefault(id_of(entry.get("id"), where), entry)
        for key in keys:
            if known.get(key) != entry.get(key):
                raise InputError(
                    f"{where}: two {noun} have the id {entry.get('id')!r}, one with {key} "
                    f"{str(known.get(key))[:60]!r}, one with {str(entry.get(key))[:60]!r}; give "
                    "one of them another"
                )
    found.pop("", None)
    return found


def id_of(value: Any, where: object) -> str:
    """Return an id as text, so that 7, 7.0 and "7" are equal; "" if there is none."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"{where}: id {str(value)[:60]!r} is neither a number nor text")
    return str(value).strip()


def id_column(values: list[Any], where: object) -> list[int] | list[str | None]:
    """Return ids for a column: whole numbers if all are, else text."""
    if all(type(value) is int and -_INTEGERS <= value < _INTEGERS for value in values):
        return values
    return [id_of(value, where) or None for value in values]


def image_columns(image: Json, where: object) -> Json:
    """Return name and size of an image of COCO, or of LVIS, whose images have only URLs."""
    name = image.get("file_name")
    if name is None and isinstance(image.get("coco_url"), str):
        name = urlsplit(image["coco_url"]).path.lstrip("/")
    if not isinstance(name, str):
        raise InputError(f"{where}: image {image.get('id')!r} has no 'file_name'")
    return {"image": name, **{side: _whole(image.get(side)) for side in ("width", "height")}}


def _whole(value: object) -> int | None:
    """Return a size as an integer, also from text, as in XML of Flickr30k Entities; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    found = re.fullmatch(r"\s*(\d{1,9})(\.0*)?\s*", str(value))
    return int(found[1]) if found else None


def coco_name(number: object, where: str) -> str:
    """Return the name of an image of COCO's train2014: 9 -> COCO_train2014_000000000009.jpg."""
    return f"COCO_train2014_{_number(number, where):012d}.jpg"


def plain_name(number: object, where: str) -> str:
    """Return the name of an image in a data set that names images by number: 9 -> 9.jpg."""
    return f"{_number(number, where)}.jpg"


def without_target(name: str) -> str:
    """Remove the target's number from a REFER image name, as _3 in COCO_..._000000000009_3.jpg."""
    return _OF_TARGET.sub(r"\1\2", name)


def _number(value: object, where: str) -> int:
    text = str(value).partition(".")[0]
    if isinstance(value, bool) or not text.isdecimal() or len(text) > 12:
        raise InputError(f"{where}: image {str(value)[:40]!r} is not the number of an image")
    return int(text)
