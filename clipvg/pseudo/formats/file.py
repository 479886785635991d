"""Input files of observations, their rows, and the names that numbers in them stand for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from clipvg.errors import InputError
from clipvg.pseudo.observation import LARGEST, Box, Observation, read_box
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
    """Names of numbered classes and images.

    Args:
        root: folder of the images, None when it is not known.
        path: a COCO file with ``categories`` and ``images``, a text file with one class per line,
            or a YAML file with ``names``.
    """

    def __init__(self, root: Path | None = None, path: Path | None = None) -> None:
        self.root = root
        self.path = path
        self.classes: dict[str, str] = {}
        self.images: dict[str, KnownImage] = {}
        if path is not None:
            self._read(path)

    def class_of(self, number: object) -> str:
        """Return the name of a class number; raise InputError if it has none."""
        if not self.classes:
            raise InputError(
                f"class {number} has no name; pass --categories INSTANCES.json (or a list of "
                "names, classes.txt or data.yaml)"
            )
        if str(number) not in self.classes:
            raise InputError(f"class {number} is not in {self.path}; pass the file that names it")
        return self.classes[str(number)]

    def image_of(self, number: str) -> KnownImage:
        """Return the image of a number; raise InputError if there is none."""
        if not self.images:
            raise InputError(
                f"image {number} has no name; pass --categories INSTANCES.json, which lists images "
                "and classes"
            )
        if number not in self.images:
            raise InputError(f"image {number} is not in {self.path}; pass the file that lists it")
        return self.images[number]

    def find(self, stem: str) -> str:
        """Return the image below the root whose name has this stem, or raise InputError."""
        if self.root is None:
            raise InputError(f"image {stem!r} is looked for among the images; pass --images DIR")
        if stem not in self._by_stem:
            raise InputError(f"no image {stem!r} below {self.root}; check --images")
        return self._by_stem[stem]

    def size(self, image: str) -> tuple[int, int]:
        """Open an image and return its width and height, or raise InputError."""
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


class Row(NamedTuple):
    """One row of a file, about one image."""

    where: str  # "line 3", "annotation 17", for errors
    observation: Observation


class File:
    """A file and its content, read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.suffix = path.suffix.lower()

    @cached_property
    def json(self) -> Any:
        """The content of a .json file; None for other files."""
        if self.suffix != ".json":
            return None
        try:
            return json.loads(self.text)
        except json.JSONDecodeError as error:
            self.fail(f"line {error.lineno}", f"not JSON ({error.msg}); is the file whole?")

    @cached_property
    def text(self) -> str:
        """The content of a text file."""
        try:
            return check_file(self.path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{self.path}: not text in UTF-8; is it of another kind?") from None

    @property
    def first(self) -> Json:
        """The first object of a JSON list; empty for any other content."""
        return first_object(self.json)

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines that are not blank, numbered from 1."""
        for number, line in enumerate(self.text.split("\n"), 1):
            if line.strip():
                yield number, line

    def objects(self, noun: str, items: object) -> Iterator[tuple[str, Json]]:
        """Yield the objects of a list in the file, each with its place: "noun 3"."""
        if not isinstance(items, list):
            self.fail(f"{noun}s", "not a list; is the file of another kind?")
        for index, item in enumerate(items):
            where = f"{noun} {index}"
            if not isinstance(item, dict):
                self.fail(where, "not an object; is the file of another kind?")
            yield where, item

    def rows(self, noun: str, items: object, read: Callable[[Json], Observation]) -> Iterator[Row]:
        """Yield the row that each object of a list is read as; errors name its place."""
        for where, item in self.objects(noun, items):
            with self.at(where):
                yield Row(where, read(item))

    def fail(self, where: str, fault: str) -> NoReturn:
        """Raise an error that names the file and the row."""
        raise InputError(f"{self.path}: {where}: {fault}") from None

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """Make errors in the block name the file and the row."""
        try:
            yield
        except InputError as error:
            self.fail(where, str(error))


def first_object(items: object) -> Json:
    """Return the first object of a list; empty if there is none."""
    first = items[0] if isinstance(items, list) and items else None
    return first if isinstance(first, dict) else {}


def image_number(item: Json) -> str:
    """Return the ``image_id`` of an entry as text; raise InputError if it has none."""
    value = item.get("image_id")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError("no 'image_id'; it says which image the entry is about")
    return str(value)


def box_from_coco(values: object) -> Box:
    """Return the corners of a COCO ``bbox``, or raise InputError."""
    if not isinstance(values, list) or len(values) != 4:
        raise InputError(f"bbox {str(values)[:60]} is not [x, y, width, height]")
    return box_from_sides(*values)


def box_from_sides(x: object, y: object, width: object, height: object) -> Box:
    """Return the corners of a box given by its upper left corner and sides, or raise InputError."""
    left, top, across, down = read_box((x, y, width, height))
    return left, top, left + across, top + down
