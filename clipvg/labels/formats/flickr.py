"""Flickr30k Entities: phrases of sentences and the boxes of their chains."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.file import FOLDER, File, Format, rows_table
from clipvg.runtime.files import Json
from clipvg.runtime.gate import open_text, read_xml, reading

FOLDERS = ("Sentences", "Annotations")
_ANNOTATION = "an annotation of Flickr30k Entities"
_PHRASE = re.compile(r"\[/EN#(\d+)((?:/[^\s/\[\]]+)*) ([^\[\]]*)\]")  # linear: '[' ends


def matches(file: File) -> bool:
    """Whether a folder holds Sentences and Annotations; a list of ids is known by its ending."""
    return not file.path.is_dir() or is_flickr(file.path)


def read(file: File) -> pa.Table:
    """Flickr30k Entities as labels: one row a phrase that has a box.

    A phrase with several boxes gets the box around them, as usual for this data set; phrases
    without a box (scenes, things not visible) are left out. The chain's id, its types and the
    number of the sentence travel as ``flickr.entity``, ``flickr.type`` and ``flickr.sentence``.

    Args:
        file: the folder that holds Sentences and Annotations, or a list of image ids (a .txt
            file, one an id) in that folder.

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
    """Whether a folder holds Sentences and Annotations."""
    return all((folder / name).is_dir() for name in FOLDERS)


def _phrases(folder: Path, name: str) -> Iterator[Json]:
    sentences = folder / "Sentences" / f"{name}.txt"
    annotation = folder / "Annotations" / f"{name}.xml"
    if Path(name).name != name:
        raise InputError(f"{folder}: {name!r} is no image id; ids are names without folders")
    with open_text(sentences, "sentences of Flickr30k Entities") as text:
        lines = text.read().splitlines()
    boxes, width, height = _boxes(annotation)
    for number, sentence in enumerate(lines):
        for entity, types, phrase in _PHRASE.findall(sentence):
            if entity in boxes and phrase.strip():
                yield {
                    "image": f"{name}.jpg",
                    "expression": phrase.strip(),
                    "box": boxes[entity],
                    "width": width,
                    "height": height,
                    "source": "human",
                    "flickr.entity": entity,
                    "flickr.type": types.lstrip("/"),
                    "flickr.sentence": number,
                }


def _boxes(file: Path) -> tuple[dict[str, list[float]], int | None, int | None]:
    """The box around all boxes of each chain, and the image's size."""
    root = read_xml(file, _ANNOTATION)
    with reading(file, _ANNOTATION):
        boxes: dict[str, list[float]] = {}
        for thing in root.iter("object"):
            corners = thing.find("bndbox")
            if corners is None:
                continue
            box = [float(corners.findtext(key, "")) for key in ("xmin", "ymin", "xmax", "ymax")]
            for name in thing.findall("name"):
                entity = (name.text or "").strip()
                boxes[entity] = _around(boxes.get(entity, box), box)
        width, height = root.findtext("size/width"), root.findtext("size/height")
        return boxes, int(width) if width else None, int(height) if height else None


def _around(a: list[float], b: list[float]) -> list[float]:
    return [min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])]


FLICKR = Format("flickr30k", (FOLDER, ".txt"), read, matches)
