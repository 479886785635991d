"""Annotations of other projects as label tables: REFER, COCO-style JSON, lists of records."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.text import records_table
from clipvg.runtime.files import Json
from clipvg.runtime.gate import read_json as load_json
from clipvg.runtime.unpickle import read_pickle

_LEFT_RIGHT_PX = 50  # horizontal distance at which left and right decide, as in Pseudo-Q


def read_refer(path: str | Path) -> pa.Table:
    """REFER's ``refs(*).p`` with ``instances.json`` beside it: one row a sentence.

    The split of each referent is in column ``split``, its ids in ``refer.ref_id`` and
    ``refer.sent_id``. The pickle is read without executing it.
    """
    path = Path(path)
    refs = read_pickle(path, "a list of referents")
    instances = path.with_name("instances.json")
    if not instances.is_file():
        raise InputError(f"{path}: its boxes are in instances.json, which is not beside it")
    images, objects, _ = _coco_parts(load_json(instances, "JSON of annotations"), instances)
    rows: list[Json] = []
    try:
        for ref in refs:
            annotation = objects[ref["ann_id"]]
            image = _image_columns(images[annotation["image_id"]])
            for sentence in ref["sentences"]:
                rows.append(
                    {
                        **image,
                        "expression": sentence.get("sent") or sentence["raw"],
                        "box": annotation["bbox"],
                        "box_format": "xywh",
                        "source": "human",
                        "split": ref["split"],
                        "refer.ref_id": ref["ref_id"],
                        "refer.sent_id": sentence["sent_id"],
                    }
                )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a REFER file, or of another instances.json ({error})"
        ) from None
    return _table(rows, path)


def read_json(path: str | Path) -> pa.Table:
    """A ``.json`` file: COCO instances, or a list of records.

    Records have image, expression and box, or img_id, sents and bbox (xywh; ``img_id`` is the
    stem of a COCO file name and a number).
    """
    path = Path(path)
    content = load_json(path, "JSON of annotations")
    if isinstance(content, dict) and "annotations" in content:
        return coco_labels(content, path)
    if isinstance(content, list) and all(isinstance(record, dict) for record in content):
        if content and {"img_id", "sents", "bbox"} <= content[0].keys():
            return _table([_from_refcoco(r, path, i) for i, r in enumerate(content)], path)
        if content and {"image_id", "category_id", "bbox"} <= content[0].keys():
            raise InputError(
                f"{path}: COCO results name neither files nor categories; put them under "
                "'annotations' of their instances JSON"
            )
        return records_table(content, str(path))
    raise InputError(
        f"{path}: neither COCO instances (images, annotations, categories) nor a list of objects "
        "with image, expression and box"
    )


def coco_labels(content: Json, path: str | Path) -> pa.Table:
    """COCO-style instances as labels: the category's name is the expression.

    Where a category occurs several times in an image, its leftmost and rightmost instances become
    "left NAME" and "right NAME" if their centres are more than 50 pixels apart. Crowds are left
    out. Detector scores travel as ``coco.score``, ids as ``coco.id``.
    """
    images, objects, names = _coco_parts(content, path)
    groups: dict[tuple, list[Json]] = defaultdict(list)
    kept = [annotation for annotation in objects.values() if not annotation.get("iscrowd")]
    rows: list[Json] = []
    try:
        for annotation in kept:
            groups[annotation["image_id"], annotation["category_id"]].append(annotation)
        sides = {key: _sides(group) for key, group in groups.items()}
        for annotation in kept:
            key = annotation["image_id"], annotation["category_id"]
            side = sides[key].get(annotation["id"], "")
            rows.append(
                {
                    **_image_columns(images[key[0]]),
                    "expression": f"{side} {names[key[1]]}".strip(),
                    "box": annotation["bbox"],
                    "box_format": "xywh",
                    "coco.id": annotation["id"],
                    "coco.score": annotation.get("score"),
                }
            )
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path}: an annotation without its image or category ({error})") from None
    return _table(rows, path)


def _sides(group: list[Json]) -> dict[object, str]:
    """Ids of the leftmost and rightmost of several instances, where that tells them apart."""
    centres = {a["id"]: a["bbox"][0] + a["bbox"][2] / 2 for a in group}
    first, last = min(centres, key=centres.__getitem__), max(centres, key=centres.__getitem__)
    if centres[last] - centres[first] <= _LEFT_RIGHT_PX:
        return {}
    return {first: "left", last: "right"}


def _coco_parts(content: object, path: str | Path) -> tuple[dict, dict, dict]:
    """Images by id, annotations by id, category names by id."""
    try:
        if not isinstance(content, dict):
            raise TypeError("'images'")
        images = {image["id"]: image for image in content["images"]}
        objects = {a.setdefault("id", i): a for i, a in enumerate(content["annotations"])}
        names = {category["id"]: category["name"] for category in content.get("categories", [])}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not COCO instances ({error} is missing)") from None
    return images, objects, names


def _image_columns(image: Json) -> Json:
    sides = {side: image.get(side) for side in ("width", "height")}
    return {"image": image["file_name"], **sides}


def _from_refcoco(record: Json, path: Path, row: int) -> Json:
    try:
        return {
            "image": f"{str(record['img_id']).rpartition('_')[0]}.jpg",
            "expression": record["sents"],
            "box": record["bbox"],
            "box_format": "xywh",
            "width": record.get("width"),
            "height": record.get("height"),
        }
    except KeyError as error:
        raise InputError(f"{path} row {row}: no {error}") from None


def _table(rows: list[Json], path: str | Path) -> pa.Table:
    """Rows as a table; what none of them has is no column."""
    if not rows:
        raise InputError(f"{path}: no labels in it")
    there = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return records_table(there, str(path))
