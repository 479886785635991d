"""The kinds of files that observations are read from, one module each.

A module has ``matches(file)``, whether it reads such a file, and ``read(file, catalogue)``, which
yields what one row says of one image. Rows about the same image are joined by the reader. A new
format is a module in this folder and its name in `FORMATS`.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from clipvg.errors import InputError
from clipvg.pseudo.formats.file import File

FORMATS = (
    "native",
    "coco",
    "visual_genome",
    "pascal_voc",
    "yolo",
    "pseudo_q",
    "supervision",
    "ultralytics",
)


def find_format(file: File) -> ModuleType:
    """Return the module that reads a file; raise InputError where none does."""
    for name in FORMATS:
        module = import_module(f"{__name__}.{name}")
        if module.matches(file):
            return module
    raise InputError(
        f"{file.path}: no observations of a known kind; docs/pseudo-labels.md shows the kinds, and "
        "the native one is a JSON object an image: "
        '{"image": "a.jpg", "detections": [{"class": "dog", "box": [x1, y1, x2, y2]}]}'
    )
