"""SeqTR's and SimREC's JSON: by split, one object a target, with the number of its image."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.file import File, Format, rows_table
from clipvg.labels.formats.names import coco_name, plain_name
from clipvg.runtime.files import Json

_EXPRESSIONS = ("expressions", "refs")  # of SeqTR, of SimREC
_IMAGES = ("image_id", "iid")
_SOURCES: tuple[tuple[str, Callable[[object], str]], ...] = (  # in `data_source`, or in a name
    (r"coco", coco_name),
    (r"flickr|refclef|saiapr|visual.?genome|(?<![a-z])(vg|refer(it)?)(?![a-z])", plain_name),
)


def matches(file: File) -> bool:
    """Whether a file holds lists of such objects by split."""
    parts = file.json.values() if isinstance(file.json, dict) else []
    firsts = [part[0] for part in parts if isinstance(part, list) and part]
    return bool(firsts) and all(
        isinstance(first, dict) and "bbox" in first and first.keys() & {*_EXPRESSIONS}
        for first in firsts
    )


def read(file: File) -> pa.Table:
    """One row an expression; boxes are xywh, splits are in column ``split``.

    The data set, which decides how images are called, is the target's ``data_source``, else in the
    name of the file or of its folder ("refcoco-unc/instances.json", "refclef.json").
    """
    return rows_table([row for split in file.json for row in _labels(file, split)], file)


def _labels(file: File, split: str) -> Iterator[Json]:
    for i, target in enumerate(file.json[split]):
        where = f"{file} {split}[{i}]"
        try:
            texts = next(target[key] for key in _EXPRESSIONS if key in target)
            shared = {
                "image": _image(target, file, where),
                "box": target["bbox"],
                "box_format": "xywh",
                "width": target.get("width"),
                "height": target.get("height"),
                "source": "human",
                "split": split,
                "seqtr.target": i,
            }
        except (KeyError, TypeError, StopIteration) as error:
            raise InputError(f"{where}: not a target of SeqTR or SimREC ({error})") from None
        for text in [texts] if isinstance(texts, str) else texts:
            yield {**shared, "expression": text}


def _image(target: Json, file: File, where: str) -> str:
    if "url" in target:  # SimREC's Visual Genome
        return "/".join(str(target["url"]).split("/")[-2:])
    number = next(target[key] for key in _IMAGES if key in target)
    places = [target.get("data_source"), file.path.stem, *islice(file.path.absolute().parents, 2)]
    for place in places:
        words = str(getattr(place, "name", place) or "").lower()
        for pattern, name in _SOURCES:
            if re.search(pattern, words):
                return name(number)
    raise InputError(
        f"{where}: image {number!r} is a number, and the file does not say of which data set; put "
        "it in a folder named as one: refcoco-unc, refcocog-umd, flickr30k, refclef, ..."
    )


SEQTR = Format("seqtr", (".json",), read, matches)
