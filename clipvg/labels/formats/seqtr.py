"""JSON of SeqTR and SimREC: per split one object per target, with the number of its image."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.file import File, Format, rows_table
from clipvg.labels.formats.instances import coco_name, plain_name
from clipvg.labels.formats.objects import list_of, value_of
from clipvg.runtime.files import Json

_EXPRESSIONS = ("expressions", "refs")  # in SeqTR, in SimREC
_IMAGES = ("image_id", "iid")
_SOURCES: tuple[tuple[str, Callable[[object, str], str]], ...] = (  # in `data_source`, or in a name
    (r"coco", coco_name),
    (r"flickr|refclef|saiapr|visual.?genome|(?<![a-z])(vg|refer(it)?)(?![a-z])", plain_name),
)


def matches(file: File) -> bool:
    """Return whether a file holds lists of such objects by split."""
    parts = file.content.values() if isinstance(file.content, dict) else []
    firsts = [part[0] for part in parts if isinstance(part, list) and part]
    return bool(firsts) and all(
        isinstance(first, dict) and "bbox" in first and first.keys() & {*_EXPRESSIONS}
        for first in firsts
    )


def read(file: File) -> pa.Table:
    """Return one row per expression; boxes are xywh, splits are in column ``split``.

    The data set, which determines the names of images, is the target's ``data_source``, else it is
    in the name of the file or its folders ("refcoco-unc/instances.json", "refclef.json").
    """
    return rows_table((row for split in file.content for row in _labels(file, split)), file)


def _labels(file: File, split: str) -> Iterator[Json]:
    for i, target in enumerate(file.content[split]):
        where = f"{file} {split}[{i}]"
        shared = {
            "box": value_of(target, "bbox", where),
            "box_format": "xywh",
            "width": target.get("width"),
            "height": target.get("height"),
            "source": "human",
            "split": split,
            "seqtr.target": i,
        }
        key = _present(target, _EXPRESSIONS)
        if isinstance(target.get(key), str):
            texts = [target[key]]
        else:
            texts = list_of(target, key, where)
        image = _image(target, file, where)
        for text in texts:
            yield {"image": image, **shared, "expression": text}


def _present(target: Json, keys: tuple[str, ...]) -> str:
    """Return the first key that a target has; if none, the first of all, for the error."""
    return next((key for key in keys if key in target), keys[0])


def _image(target: Json, file: File, where: str) -> str:
    if "url" in target:  # SimREC's Visual Genome
        return "/".join(str(target["url"]).split("/")[-2:])
    number = value_of(target, _present(target, _IMAGES), where)
    places = [target.get("data_source"), file.path.stem, *islice(file.path.absolute().parents, 2)]
    for place in places:
        words = str(getattr(place, "name", place) or "").lower()
        for pattern, name in _SOURCES:
            if re.search(pattern, words):
                return name(number, where)
    raise InputError(
        f"{where}: image {number!r} is a number, and the file does not say which data set "
        "it belongs to; put it in a folder named after one: "
        "refcoco-unc, refcocog-umd, flickr30k, refclef, ..."
    )


SEQTR = Format("seqtr", (".json",), read, matches)
