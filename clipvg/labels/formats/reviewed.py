"""RefCOCO, RefCOCO+ and RefCOCOg as reviewed by hand, which Ref-L4 comes with."""

from __future__ import annotations

import warnings

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.file import File, Format, rows_table
from clipvg.labels.formats.instances import id_of
from clipvg.labels.formats.names import coco_name, without_target
from clipvg.labels.formats.objects import value_of
from clipvg.runtime.files import Json

QUALITY = "caption_quality"
_LISTS = ("annotation", "annotations")
_EXPRESSIONS = ("caption", "sent", "expression", "phrase", "raw")


def matches(file: File) -> bool:
    """Whether a file's annotations say of what quality their captions are."""
    first = (_annotations(file) or [None])[0]
    return isinstance(first, dict) and QUALITY in first


def read(file: File) -> pa.Table:
    """One row an annotation; boxes are xywh, what reviewers say is in ``caption_quality``.

    Those whose quality is 0 are wrong, which a warning counts; they are kept, so that they can be
    looked at and left out. The image is the annotation's, else that of its ``image_id``.
    """
    images = {
        id_of(value_of(image, "id", f"{file} image {i}"), file): image
        for i, image in enumerate(file.content.get("images") or [])
    }
    rows = [_label(a, images, f"{file} row {i}") for i, a in enumerate(_annotations(file))]
    if wrong := sum(row[QUALITY] == 0 for row in rows):
        warnings.warn(
            f"{file}: reviewers call {wrong:,} of {len(rows):,} labels wrong ({QUALITY} 0); "
            f"they are kept: leave them out by column {QUALITY!r}",
            stacklevel=2,
        )
    return rows_table(rows, file)


def _annotations(file: File) -> list:
    content = file.content if isinstance(file.content, dict) else {}
    found = next((content[name] for name in _LISTS if name in content), None)
    return found if isinstance(found, list) else []


def _label(annotation: object, images: dict[str, Json], where: str) -> Json:
    box = value_of(annotation, "bbox", where)
    assert isinstance(annotation, dict)
    image = images.get(id_of(annotation.get("image_id"), where), {})
    places = (annotation, image)
    expression = next((p[key] for p in places for key in _EXPRESSIONS if key in p), None)
    name = next((str(p["file_name"]) for p in places if p.get("file_name")), None)
    if name is None and annotation.get("image_id") is not None:
        name = coco_name(annotation["image_id"], where)
    needed = {"caption": expression, "file_name or image_id": name}
    if lacking := [what for what, value in needed.items() if value is None]:
        raise InputError(
            f"{where}: no {' and no '.join(lacking)} in an annotation that has "
            f"{', '.join(map(str, annotation))}"
        )
    return {
        "image": without_target(str(name)),
        "expression": expression,
        "box": box,
        "box_format": "xywh",
        "width": annotation.get("width", image.get("width")),
        "height": annotation.get("height", image.get("height")),
        "source": "human",
        QUALITY: annotation.get(QUALITY),
    }


REVIEWED = Format("refcoco-reviewed", (".json",), read, matches)
