"""Flickr30k Entities: phrases of sentences, and the boxes of their coreference chains."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from clipvg.errors import InputError, one_line
from clipvg.labels.formats.file import FOLDER, File, Format, rows_table
from clipvg.runtime.files import Json
from clipvg.runtime.gate import open_text, read_xml, reading

if TYPE_CHECKING:
    from clipvg.labels.table import LabelTable

FOLDERS = ("Sentences", "Annotations")
BOXES = "flickr.boxes"  # column with all boxes of a phrase, (K, 4) xyxy pixels as JSON
_ANNOTATION = "an annotation of Flickr30k Entities"
_PHRASE = re.compile(r"\[/EN#(\d+)((?:/[^\s/\[\]]+)*) ([^\[\]]*)\]")  # linear: '[' ends


def matches(file: File) -> bool:
    """Return whether a folder has Sentences and Annotations; lists of ids are known by ending."""
    return not file.path.is_dir() or is_flickr(file.path)


def read(file: File) -> pa.Table:
    """Return Flickr30k Entities as labels: one row per phrase that has a box.

    A phrase with several boxes gets the box that encloses them, as usual for this data set; phrases
    without a box (scenes, invisible objects) are left out. The chain's id and types, the number of
    the sentence and the single boxes are in columns ``flickr.entity``, ``flickr.type``,
    ``flickr.sentence`` and, as JSON, ``flickr.boxes``.

    The file is the folder that holds Sentences and Annotations, or a list of ids (.txt) in it.

    Raises:
        InputError: a file is missing or is not of this kind.
    """
    path = file.path
    folder = path if path.is_dir() else path.parent
    if not is_flickr(folder):
        raise InputError(
            f"{path}: not a file of labels: a .txt lists image ids beside the folders "
            "Sentences and Annotations of Flickr30k Entities, which are not there"
        )
    if path.is_dir():
        ids = sorted(each.stem for each in (folder / "Sentences").glob("*.txt"))
    else:
        with open_text(path, "a list of image ids") as text:
            words = re.split(r"[\s,;\ufeff]+", text.read())
            ids = [word.removesuffix(".jpg") for word in words if word]
    rows = [row for name in ids for row in _phrases(folder, name)]
    if not rows:
        raise InputError(f"{path}: no phrase with a box in {len(ids)} images")
    return rows_table(rows, path)


def is_flickr(folder: Path) -> bool:
    """Return whether a folder holds Sentences and Annotations."""
    return all((folder / name).is_dir() for name in FOLDERS)


def boxes_of_phrases(labels: LabelTable) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the single boxes of each label's phrase; None if the labels do not list them.

    Returns:
        (K,) int64, the row that each box belongs to, and (K, 4) float32 xyxy pixels.

    Raises:
        InputError: the column holds something else.
    """
    if BOXES not in labels.table.column_names:
        return None
    try:
        listed = [json.loads(text or "[]") for text in labels.table.column(BOXES).to_pylist()]
        rows = np.repeat(np.arange(len(listed)), [len(boxes) for boxes in listed])
        boxes = np.array([box for boxes in listed for box in boxes], np.float32).reshape(-1, 4)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"column {BOXES!r} does not hold lists of boxes as JSON ({one_line(error, 60)})"
        ) from None
    return rows, boxes


def _phrases(folder: Path, name: str) -> Iterator[Json]:
    sentences = folder / "Sentences" / f"{name}.txt"
    annotation = folder / "Annotations" / f"{name}.xml"
    if Path(name).name != name:
        raise InputError(f"{folder}: {name!r} is not an image id; ids are names without folders")
    with open_text(sentences, "sentences of Flickr30k Entities") as text:
        lines = text.read().splitlines()
    boxes, width, height = _boxes(annotation)
    for number, sentence in enumerate(lines):
        for entity, types, phrase in _PHRASE.findall(sentence):
            if entity in boxes and phrase.strip():
                yield {
                    "image": f"{name}.jpg",
                    "expression": phrase.strip(),
                    "box": _around(boxes[entity]),
                    "width": width,
                    "height": height,
                    "source": "human",
                    "flickr.entity": entity,
                    "flickr.type": types.lstrip("/"),
                    "flickr.sentence": number,
                    BOXES: json.dumps(boxes[entity]),
                }


def _boxes(file: Path) -> tuple[dict[str, list[list[float]]], int | None, int | None]:
    """Return the boxes of each chain, and the image's width and height."""
    root = read_xml(file, _ANNOTATION)
    with reading(file, _ANNOTATION):
        boxes: dict[str, list[list[float]]] = {}
        for thing in root.iter("object"):
            corners = thing.find("bndbox")
            if corners is None:
                continue
            box = [float(corners.findtext(key, "")) for key in ("xmin", "ymin", "xmax", "ymax")]
            for name in thing.findall("name"):
                boxes.setdefault((name.text or "").strip(), []).append(box)
        width, height = root.findtext("size/width"), root.findtext("size/height")
        return boxes, int(width) if width else None, int(height) if height else None


def _around(boxes: list[list[float]]) -> list[float]:
    """Return the box that encloses several boxes."""
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return [min(x1), min(y1), max(x2), max(y2)]


FLICKR = Format("flickr30k", (FOLDER, ".txt"), read, matches)
