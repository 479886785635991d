"""COCO's JSON: boxes of categories, or of expressions as MDETR, GLIP and MM-Grounding-DINO use it.

Ids are names: whole numbers or text, of any length, also repeated or missing where nothing needs
them.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from clipvg.errors import InputError
from clipvg.labels.formats.carried import carried, is_box, restored
from clipvg.labels.formats.file import File, Format, rows_of, rows_table
from clipvg.runtime.files import Json

_LEFT_RIGHT_PX = 50  # horizontal distance at which left and right decide, as in Pseudo-Q
_INTEGERS = 2**63  # ids below stay numbers
_KEYS = ("image_id", "category_id")
_KNOWN = ("image", "expression", "width", "height", "coco.id")


def matches(file: File) -> bool:
    """Whether a file holds annotations, alone or with the images and categories they name."""
    if isinstance(file.json, dict):
        return "annotations" in file.json
    return file.first.keys() >= {"image_id", "category_id", "bbox"}


def read(file: File) -> pa.Table:
    """Return a label for each annotation that is no crowd.

    The expression is the annotation's caption; else that of its image entry, see `_phrases`; else
    its category's name. Where a category occurs several times in an image, its leftmost and
    rightmost instances become "left NAME" and "right NAME" if their centres are more than 50 pixels
    apart. Detector scores travel as ``coco.score``, ids as ``coco.id``.
    """
    if isinstance(file.json, list):
        raise InputError(
            f"{file}: COCO results name neither files nor categories; put them under "
            "'annotations' of their instances JSON"
        )
    images, annotations, names = coco_parts(file.json, file)
    kept = [each for each in annotations if each.get("iscrowd") not in (1, "1", "true")]
    groups: dict[str, list[Json]] = defaultdict(list)
    for annotation in kept:
        groups[id_of(annotation.get("image_id"), file)].append(annotation)
    alike = {key: _marks_alike(group) for key, group in groups.items()}
    ids = id_column([annotation.get("id") for annotation in kept], file)
    sides = _sides(kept, file)
    rows: list[Json] = []
    for number, annotation in enumerate(kept):
        image = images.get(group := id_of(annotation.get("image_id"), file))
        if image is None:
            raise InputError(
                f"{file}: an annotation without its image or category (annotation {number} is of "
                f"image {annotation.get('image_id')!r}, which 'images' does not list)"
            )
        label = {
            **image_columns(image, file),
            "box": annotation.get("bbox"),
            "box_format": "xywh",
            "coco.id": ids[number],
            "coco.score": annotation.get("score"),
        }
        if texts := _phrases(annotation, image, alike[group]):
            caption = image.get("caption")
            for text in texts:
                whole = {} if text == caption else {"caption": caption}
                rows.append(restored({**label, **whole, "expression": text}, annotation))
            continue
        category = id_of(annotation.get("category_id"), file)
        if category not in names:
            raise InputError(
                f"{file}: an annotation without its image or category (annotation {number} is of "
                f"category {annotation.get('category_id')!r}, which 'categories' does not list)"
            )
        label["expression"] = f"{sides.get(number, '')} {names[category]}".strip()
        rows.append(restored(label, annotation))
    return rows_table(rows, file)


def write(table: pa.Table, file: File) -> None:
    """Write MDETR's form: an image entry with its caption, and an annotation, for each label.

    Ids of annotations stay where each label has one of its own, else they are numbered anew.
    Columns that COCO does not know travel under "clipvg" of the annotation.
    """
    numbered = not _has_ids(table)
    with file.create() as out:
        for name, entry in (("images", _image_entry), ("annotations", _annotation)):
            out.write("{" if name == "images" else ",\n")
            out.write(f'"{name}": [')
            for number, row in enumerate(rows_of(table), 1):
                if numbered:
                    row.pop("coco.id", None)
                out.write(",\n" if number > 1 else "\n")
                out.write(json.dumps(entry(number, row), ensure_ascii=False, default=str))
            out.write("]")
        out.write(',\n"categories": [{"id": 1, "name": "object", "supercategory": "object"}]}\n')


def _has_ids(table: pa.Table) -> bool:
    """Whether each label has an id of its own."""
    if "coco.id" not in table.column_names:
        return False
    return pc.count_distinct(table.column("coco.id"), mode="only_valid").as_py() == len(table)


def lost(table: pa.Table, file: File) -> list[str]:
    """Name the ids of annotations where they cannot stay."""
    return [name for name in table.column_names if name == "coco.id" and not _has_ids(table)]


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


def _marks_alike(group: list[Json]) -> bool:
    """Whether the annotations of an image all mark the same spans, as those of one target do."""
    marked = (spans_of(each.get("tokens_positive")) for each in group)
    first = next(marked)
    return all(each == first for each in marked)


def _phrases(annotation: Json, image: Json, single: bool) -> list[str]:
    """What an annotation says of its box; nothing where it has a category alone.

    Of a single target the whole caption, since its ``tokens_positive`` mark only the head of it; of
    several the spans they mark, an expression each. An entry that says what to ground in its
    caption (``tokens_positive_eval``) has phrases, and be it a single one.
    """
    if isinstance(own := annotation.get("caption"), str):
        return [own]
    if not isinstance(caption := image.get("caption"), str):
        return []
    marked = spans_of(annotation.get("tokens_positive"))
    if not marked or (single and not image.get("tokens_positive_eval")):
        return [caption]
    return spans(caption, marked)


def spans(caption: str, marked: list[tuple[int, int]]) -> list[str]:
    """The parts of a caption that spans mark; those with nothing but space between are one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(marked):
        if joined and not caption[joined[-1][1] : start].strip():
            start, end = joined[-1][0], max(end, joined.pop()[1])
        joined.append((start, end))
    return [caption[start:end].strip() if start >= 0 else "" for start, end in joined]


def spans_of(marked: object) -> list[tuple[int, int]]:
    """Spans as pairs of whole numbers, also of a single pair; none where they are no such thing."""
    if not isinstance(marked, list) or not marked:
        return []
    pairs = [marked] if all(isinstance(each, int) for each in marked) else marked
    found = [tuple(pair) for pair in pairs if isinstance(pair, list) and len(pair) == 2]
    return [pair for pair in found if all(type(each) is int for each in pair)]


def _sides(annotations: list[Json], file: File) -> dict[int, str]:
    """Which annotations are the leftmost and rightmost of their category in an image."""
    centres: list[tuple[Hashable, float, int]] = []
    for number, annotation in enumerate(annotations):
        if is_box(box := annotation.get("bbox")):
            group = tuple(id_of(annotation.get(key), file) for key in _KEYS)
            centres.append((group, box[0] + box[2] / 2, number))
    return left_and_right(centres)


def left_and_right(centres: Iterable[tuple[Hashable, float, int]]) -> dict[int, str]:
    """Numbers of the leftmost and rightmost things of each kind, where that tells them apart.

    Args:
        centres: kind, horizontal centre in pixels and number of each thing.
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


def coco_parts(
    content: object, where: object
) -> tuple[dict[str, Json], list[Json], dict[str, str]]:
    """Images by id, annotations, category names by id."""
    if not isinstance(content, dict):
        raise InputError(f"{where}: not COCO instances (no object with 'images')")
    parts: dict[str, list[Json]] = {}
    for name in ("images", "annotations", "categories"):
        entries = content.get(name, [] if name == "categories" else None)
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise InputError(f"{where}: not COCO instances ({name!r} is missing, or no list)")
        parts[name] = entries
    images = by_id(parts["images"], "images", ("file_name", "caption"), where)
    names = by_id(parts["categories"], "categories", ("name",), where)
    return images, parts["annotations"], {key: str(each.get("name")) for key, each in names.items()}


def by_id(entries: list[Json], noun: str, keys: tuple[str, ...], where: object) -> dict[str, Json]:
    """Entries by id; equal ones may repeat.

    Raises:
        InputError: two of one id differ, so that a reference to it may mean either.
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
    """An id as text, of which 7, 7.0 and "7" are one; "" where there is none."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"{where}: id {str(value)[:60]!r} is neither a number nor text")
    return str(value).strip()


def id_column(values: list[Any], where: object) -> list[int] | list[str | None]:
    """Ids for a column: whole numbers where all are, else text."""
    if all(type(value) is int and -_INTEGERS <= value < _INTEGERS for value in values):
        return values
    return [id_of(value, where) or None for value in values]


def image_columns(image: Json, where: object) -> Json:
    """Name and size of an image of COCO; of LVIS, whose images have addresses alone."""
    name = image.get("file_name")
    if name is None and isinstance(image.get("coco_url"), str):
        name = urlsplit(image["coco_url"]).path.lstrip("/")
    if not isinstance(name, str):
        raise InputError(f"{where}: image {image.get('id')!r} has no 'file_name'")
    return {"image": name, **{side: _whole(image.get(side)) for side in ("width", "height")}}


def _whole(value: object) -> int | None:
    """A size, also as text, as the XML of Flickr30k Entities left it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    found = re.fullmatch(r"\s*(\d{1,9})(\.0*)?\s*", str(value))
    return int(found[1]) if found else None


COCO = Format("coco", (".json",), read, matches, write, lost=lost)
