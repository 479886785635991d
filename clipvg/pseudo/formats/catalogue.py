"""What numbers in files stand for: names of classes, and images with their sizes."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from clipvg.errors import InputError
from clipvg.pseudo.native import LARGEST
from clipvg.runtime.files import Json
from clipvg.runtime.gate import check_file, read_json, read_yaml, reading
from clipvg.runtime.images import image_size

_NAMES = "names of classes"
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class KnownImage(NamedTuple):
    """An image as a COCO file lists it."""

    name: str
    width: int | None
    height: int | None


class Catalogue:
    """Names of classes and images.

    Args:
        root: folder of the images, None when it is not known.
        path: a COCO file with ``categories`` and ``images``, a text file with one class a line, or
            a YAML file with ``names``.
    """

    def __init__(self, root: Path | None = None, path: Path | None = None) -> None:
        self.root = root
        self.path = path
        self.classes: dict[str, str] = {}
        self.images: dict[str, KnownImage] = {}
        if path is not None:
            self._read(path)

    def class_of(self, number: object) -> str:
        """Return the name of a class; raise InputError where there is none of this number."""
        if not self.classes:
            raise InputError(
                f"class {number} has no name; pass --categories INSTANCES.json (or a list of "
                "names, classes.txt or data.yaml)"
            )
        if str(number) not in self.classes:
            raise InputError(f"class {number} is not in {self.path}; pass the file that names it")
        return self.classes[str(number)]

    def image_of(self, number: str) -> KnownImage:
        """Return the image of a number; raise InputError where there is none."""
        if not self.images:
            raise InputError(
                f"image {number} has no name; pass --categories INSTANCES.json, which lists images "
                "and classes"
            )
        if number not in self.images:
            raise InputError(f"image {number} is not in {self.path}; pass the file that lists it")
        return self.images[number]

    def find(self, stem: str) -> str:
        """Return the image of a name without ending below the root, or raise InputError."""
        if self.root is None:
            raise InputError(f"image {stem!r} is looked for among the images; pass --images DIR")
        if stem not in self._by_stem:
            raise InputError(f"no image {stem!r} below {self.root}; check --images")
        return self._by_stem[stem]

    def size(self, image: str) -> tuple[int, int]:
        """Return width and height of an image, which is opened, or raise InputError."""
        if self.root is None:
            raise InputError(f"the size of {image} is not known; pass --images DIR to read it")
        path = self.root / image
        if not os.path.isfile(path):
            raise InputError(f"no image {image!r} below {self.root}; check --images")
        return image_size(path)

    @cached_property
    def _by_stem(self) -> dict[str, str]:
        assert self.root is not None
        names = sorted(path for path in self.root.rglob("*") if path.suffix.lower() in IMAGES)
        return {path.stem: path.relative_to(self.root).as_posix() for path in reversed(names)}

    def _read(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"--categories {path}: no such file")
        if path.suffix.lower() == ".txt":
            with reading(path, _NAMES):
                names: object = check_file(path).read_text(encoding="utf-8").split("\n")
        elif path.suffix.lower() in (".yaml", ".yml"):
            names = _checked(path, read_yaml(path, _NAMES)).get("names")
        else:
            self.add_coco(_checked(path, read_json(path, _NAMES)), path)
            return
        if isinstance(names, list):
            names = dict(enumerate(names))
        if not isinstance(names, dict):
            raise InputError(f"--categories {path}: no 'names' in it")
        self.classes = {str(key): str(name).strip() for key, name in names.items() if name}

    def add_coco(self, data: Json, path: Path) -> None:
        """Add the categories and images of a COCO file."""
        self.path = path
        for entry in _entries(data, "categories"):
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                self.classes[str(entry.get("id"))] = entry["name"]
        for entry in _entries(data, "images"):
            if isinstance(entry, dict) and isinstance(entry.get("file_name"), str):
                sides = (_side(entry.get(name)) for name in ("width", "height"))
                self.images[str(entry.get("id"))] = KnownImage(entry["file_name"], *sides)


def _entries(data: Json, key: str) -> list:
    entries = data.get(key)
    return entries if isinstance(entries, list) else []


def _side(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value <= LARGEST else None


def _checked(path: Path, data: object) -> Json:
    if not isinstance(data, dict):
        raise InputError(f"--categories {path}: no 'categories' or 'names' in it")
    return data
