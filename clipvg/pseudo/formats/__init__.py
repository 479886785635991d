"""The kinds of files that observations are read from, one module each.

A module has ``read(file, catalogue)``, which yields what one row says of one image. Rows about the
same image are joined by the reader. A new format is a module in this folder and its line in
`FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from clipvg.errors import InputError
from clipvg.pseudo.formats.file import File, first_object

_GENOME = {"objects", "attributes", "relationships"}
FORMATS: dict[str, Callable[[File], bool]] = {  # whether a module reads a file
    "native": lambda file: file.suffix == ".jsonl",
    "coco": lambda file: _is_coco(file),
    "visual_genome": lambda file: "image_id" in file.first and bool(_GENOME & file.first.keys()),
    "pascal_voc": lambda file: file.suffix == ".xml",
    "yolo": lambda file: file.suffix == ".txt",
    "pseudo_q": lambda file: file.suffix in (".pth", ".npy", ".pkl"),
    "supervision": lambda file: "x_min" in file.first,
    # an empty list is an image without detections
    "ultralytics": lambda file: file.json == [] or {"name", "confidence", "box"} <= {*file.first},
}


def find_format(file: File) -> ModuleType:
    """Return the module that reads a file; raise InputError where none does."""
    for name, matches in FORMATS.items():
        if matches(file):
            return import_module(f"{__name__}.{name}")
    raise InputError(
        f"{file.path}: no observations of a known kind; docs/pseudo-labels.md shows the kinds, and "
        "the native one is a JSON object an image: "
        '{"image": "a.jpg", "detections": [{"class": "dog", "box": [x1, y1, x2, y2]}]}'
    )


def _is_coco(file: File) -> bool:
    data = file.json
    if isinstance(data, dict) and "images" in data:
        return "categories" in data or "caption" in first_object(data.get("annotations"))
    keys = file.first.keys()
    return {"bbox", "category_id"} <= keys or {"caption", "image_id"} <= keys
