"""COCO's JSON: instances of categories in images."""

from __future__ import annotations

from collections import defaultdict

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.file import File, Format, rows_table
from clipvg.runtime.files import Json

_LEFT_RIGHT_PX = 50  # horizontal distance at which left and right decide, as in Pseudo-Q


def matches(file: File) -> bool:
    """Whether a file holds annotations, alone or with the images and categories they name."""
    if isinstance(file.json, dict):
        return "annotations" in file.json
    return file.first.keys() >= {"image_id", "category_id", "bbox"}


def read(file: File) -> pa.Table:
    """COCO-style instances as labels: the category's name is the expression.

    Where a category occurs several times in an image, its leftmost and rightmost instances become
    "left NAME" and "right NAME" if their centres are more than 50 pixels apart. Crowds are left
    out. Detector scores travel as ``coco.score``, ids as ``coco.id``.
    """
    if isinstance(file.json, list):
        raise InputError(
            f"{file}: COCO results name neither files nor categories; put them under "
            "'annotations' of their instances JSON"
        )
    images, objects, names = coco_parts(file.json, file)
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
                    **image_columns(images[key[0]]),
                    "expression": f"{side} {names[key[1]]}".strip(),
                    "box": annotation["bbox"],
                    "box_format": "xywh",
                    "coco.id": annotation["id"],
                    "coco.score": annotation.get("score"),
                }
            )
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"{file}: an annotation without its image or category ({error})") from None
    return rows_table(rows, file)


def _sides(group: list[Json]) -> dict[object, str]:
    """Ids of the leftmost and rightmost of several instances, where that tells them apart."""
    centres = {a["id"]: a["bbox"][0] + a["bbox"][2] / 2 for a in group}
    first, last = min(centres, key=centres.__getitem__), max(centres, key=centres.__getitem__)
    if centres[last] - centres[first] <= _LEFT_RIGHT_PX:
        return {}
    return {first: "left", last: "right"}


def coco_parts(content: object, where: object) -> tuple[dict, dict, dict]:
    """Images by id, annotations by id, category names by id."""
    try:
        if not isinstance(content, dict):
            raise TypeError("'images'")
        images = {image["id"]: image for image in content["images"]}
        objects = {a.setdefault("id", i): a for i, a in enumerate(content["annotations"])}
        names = {category["id"]: category["name"] for category in content.get("categories", [])}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: not COCO instances ({error} is missing)") from None
    return images, objects, names


def image_columns(image: Json) -> Json:
    """Name and size of an image of COCO."""
    sides = {side: image.get(side) for side in ("width", "height")}
    return {"image": image["file_name"], **sides}


COCO = Format("coco", (".json",), read, matches)
