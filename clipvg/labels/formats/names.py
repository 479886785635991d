"""Names of images as data sets derive them from numbers, and numbers out of names."""

from __future__ import annotations

import re

from clipvg.errors import InputError

_OF_TARGET = re.compile(r"(COCO_[a-z]+\d+_\d{12})_\d+(\.\w+)$")


def coco_name(number: object, where: str) -> str:
    """The image of COCO's train2014 with this number: 9 -> COCO_train2014_000000000009.jpg."""
    return f"COCO_train2014_{_number(number, where):012d}.jpg"


def plain_name(number: object, where: str) -> str:
    """The image of a data set that names images by their number: 9 -> 9.jpg."""
    return f"{_number(number, where)}.jpg"


def without_target(name: str) -> str:
    """A name of REFER's without the number of the target: COCO_..._000000000009_3.jpg."""
    return _OF_TARGET.sub(r"\1\2", name)


def _number(value: object, where: str) -> int:
    text = str(value).partition(".")[0]
    if isinstance(value, bool) or not text.isdecimal() or len(text) > 12:
        raise InputError(f"{where}: image {str(value)[:40]!r} is not the number of an image")
    return int(text)
