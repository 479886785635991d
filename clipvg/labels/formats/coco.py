"""COCO's JSON: boxes of categories, or of expressions as in MDETR, GLIP and MM-Grounding-DINO."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from clipvg.errors import InputError
from clipvg.labels.formats.file import File, Format, rows_of, rows_table
from clipvg.labels.formats.instances import coco_parts, id_column, id_of, image_columns
from clipvg.labels.formats.objects import carried, is_box, restored
from clipvg.runtime.files import Json

Entry = TypeVar("Entry", Json, str)

_LEFT_RIGHT_PX = 50  # horizontal distance above which left and right are told apart, as in Pseudo-Q
_KEYS = ("image_id", "category_id")
_OF_IMAGE = ("image", "expression", "width", "height")
_KNOWN = (*_OF_IMAGE, "coco.id", "coco.image_id")


def matches(file: File) -> bool:
    """Return whether a file holds annotations, with or without their images and categories."""
    if isinstance(file.content, dict):
        return "annotations" in file.content
    return file.first.keys() >= {"image_id", "category_id", "bbox"}


def read(file: File) -> pa.Table:
    """Return a label for each annotation that is not a crowd.

    The expression is the annotation's caption; else that of its image entry, see `_phrases`; else
    its category's name. If a category occurs several times in an image, its leftmost and rightmost
    instances become "left NAME" and "right NAME" if their centres are more than 50 pixels apart.
    Detector scores are kept as ``coco.score``, ids as ``coco.id`` and ``coco.image_id``.
    """
    if file.content is None:
        raise InputError(
            f"{file}: COCO results name neither files nor categories; put them under "
            "'annotations' of their instances JSON"
        )
    images, annotations, names = coco_parts(file.content, file)
    kept = [each for each in annotations if each.get("iscrowd") not in (1, "1", "true")]
    if kept and not any("bbox" in annotation for annotation in kept):
        raise InputError(
            f"{file}: no annotation has a 'bbox'. Captions of whole images are read by clipvg "
            "generate --observations"
        )
    ids = id_column([annotation.get("id") for annotation in kept], file)
    of_images = id_column([annotation.get("image_id") for annotation in kept], file)
    sides = _sides(kept, images, file)
    several = _with_several_targets(kept, file)

    def labels() -> Iterator[Json]:
        for number, annotation in enumerate(kept):
            where = f"annotation {number}"
            image = _entry(images, annotation, "image", where, file)
            texts = _phrases(annotation, image, id_of(image.get("id"), file) not in several)
            caption = image.get("caption") if texts else None
            if not texts:
                name = _entry(names, annotation, "category", where, file)
                texts = [f"{sides.get(number, '')} {name}".strip()]
            label = {
                **image_columns(image, file),
                "box": annotation.get("bbox"),
                "box_format": "xywh",
                "coco.id": ids[number],
                "coco.image_id": of_images[number],
                "coco.score": annotation.get("score"),
            }
            for text in texts:
                whole = {} if text == caption else {"caption": caption}
                yield restored({**label, **whole, "expression": text}, annotation)

    return rows_table(labels(), file)


def _entry(
    entries: Mapping[str, Entry], annotation: Json, noun: str, where: str, file: File
) -> Entry:
    """Return the image of an annotation, or the name of its category."""
    number = annotation.get(f"{noun}_id")
    entry = entries.get(id_of(number, file))
    if entry is None:
        plural = {"image": "images", "category": "categories"}[noun]
        raise InputError(
            f"{file}: an annotation without its image or category ({where} is of {noun} "
            f"{number!r}, which {plural!r} does not list)"
        )
    return entry


def write(table: pa.Table, file: File) -> None:
    """Write MDETR's form: for each label an image entry with its caption, and an annotation.

    Ids of annotations are kept if each label has its own, else annotations are renumbered.
    Columns that COCO does not know are stored under "clipvg" in the annotation.
    """
    table = table.drop_columns(lost(table, file))
    of_image = [name for name in _OF_IMAGE if name in table.column_names]
    with file.create() as out:
        for name, entry, part in (
            ("images", _image_entry, table.select(of_image)),
            ("annotations", _annotation, table),
        ):
            out.write("{" if name == "images" else ",\n")
            out.write(f'"{name}": [')
            for number, row in enumerate(rows_of(part), 1):
                out.write(",\n" if number > 1 else "\n")
                out.write(json.dumps(entry(number, row), ensure_ascii=False, default=str))
            out.write("]")
        out.write(',\n"categories": [{"id": 1, "name": "object", "supercategory": "object"}]}\n')


def lost(table: pa.Table, file: File) -> list[str]:
    """Return the column of annotation ids, which is lost unless each label has its own."""
    if "coco.id" not in table.column_names:
        return []
    distinct = pc.count_distinct(table.column("coco.id"), mode="only_valid").as_py()
    return [] if distinct == len(table) else ["coco.id"]


def _image_entry(number: int, row: Json) -> Json:
    sizes: Json = {side: row[side] for side in ("height", "width") if side in row}
    entry = {"id": number, "file_name": row.get("image"), **sizes}
    return {**entry, "caption": row.get("expression")}


def _annotation(number: int, row: Json) -> Json:
    box, others = carried(row, "xywh", _KNOWN)
    return {
        "id": row.get("coco.id", number),
        "image_id": number,
        "category_id": 1,
        "bbox": box,
        "area": box[2] * box[3] if box else 0,
        "iscrowd": 0,
        "tokens_positive": [[0, len(row.get("expression", ""))]],
        **others,
    }


def _phrases(annotation: Json, image: Json, single: bool) -> list[str]:
    """Return the expressions of an annotation; none if it has only a category."""
    if isinstance(own := annotation.get("caption"), str):
        return [own]
    if not isinstance(caption := image.get("caption"), str):
        return []
    marked = spans_of(annotation.get("tokens_positive"))
    # For a single target the spans mark only its head, unless the image says what to ground.
    if not marked or (single and not image.get("tokens_positive_eval")):
        return [caption]
    return spans(caption, marked)


def _with_several_targets(annotations: list[Json], file: File) -> set[str]:
    """Return ids of the images whose annotations mark different spans of the caption."""
    marked: dict[str, list[tuple[int, int]]] = {}
    several: set[str] = set()
    for annotation in annotations:
        image = id_of(annotation.get("image_id"), file)
        own = spans_of(annotation.get("tokens_positive"))
        if marked.setdefault(image, own) != own:
            several.add(image)
    return several


def spans(caption: str, marked: list[tuple[int, int]]) -> list[str]:
    """Return the parts of a caption that spans mark, joining those with only space between them."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(marked):
        if joined and not caption[joined[-1][1] : start].strip():
            start, end = joined[-1][0], max(end, joined.pop()[1])
        joined.append((start, end))
    return [caption[start:end].strip() if start >= 0 else "" for start, end in joined]


def spans_of(marked: object) -> list[tuple[int, int]]:
    """Return spans as pairs of integers, also from a single pair; none if they are malformed."""
    if not isinstance(marked, list) or not marked:
        return []
    pairs = [marked] if all(isinstance(each, int) for each in marked) else marked
    found = [tuple(pair) for pair in pairs if isinstance(pair, list) and len(pair) == 2]
    return [pair for pair in found if all(type(each) is int for each in pair)]


def _sides(annotations: list[Json], images: dict[str, Json], file: File) -> dict[int, str]:
    """Return which annotations are the leftmost and rightmost of their category in an image."""
    centres: list[tuple[Hashable, float, int]] = []
    for number, annotation in enumerate(annotations):
        image = images.get(id_of(annotation.get("image_id"), file), {})
        if any(isinstance(each.get("caption"), str) for each in (annotation, image)):
            continue  # it is named by its caption
        if is_box(box := annotation.get("bbox")):
            group = tuple(id_of(annotation.get(key), file) for key in _KEYS)
            centres.append((group, box[0] + box[2] / 2, number))
    return left_and_right(centres)


def left_and_right(centres: Iterable[tuple[Hashable, float, int]]) -> dict[int, str]:
    """Return "left" or "right" by number for the outermost of each kind, if clearly apart.

    Centres are (kind, horizontal centre in pixels, number) of each object.
    """
    groups: dict[Hashable, list[tuple[float, int]]] = defaultdict(list)
    for kind, centre, number in centres:
        groups[kind].append((centre, number))
    sides: dict[int, str] = {}
    for group in groups.values():
        first, last = min(group), max(group, key=lambda each: each[0])
        if last[0] - first[0] > _LEFT_RIGHT_PX:
            sides |= {first[1]: "left", last[1]: "right"}
    return sides


COCO = Format("coco", (".json",), read, matches, write, lost=lost)
