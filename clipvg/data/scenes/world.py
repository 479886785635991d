"""Scenes of objects with shape, colour, texture and box, and how to sample them.

Boxes are xyxy pixels of the image. Drawing is in `render`, wording in `language`.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any

import numpy as np

from clipvg.runtime.fields import check_fields

SCENES_VERSION = "scenes-v1"

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
TEXTURES = ("plain", "striped", "dotted")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 40, 40),
    "green": (50, 155, 60),
    "blue": (45, 80, 205),
    "yellow": (230, 205, 50),
    "purple": (135, 55, 165),
    "orange": (235, 130, 35),
    "white": (240, 240, 240),
    "black": (30, 30, 30),
}

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class SceneConfig:
    """Distribution that scenes are sampled from.

    Attributes:
        long_side: longer side of every image, pixels.
        short_sides: the shorter side is one of these fractions of `long_side`.
        num_objects: smallest and largest number of objects, inclusive.
        object_side: smallest and largest object side, as fractions of `long_side`.
        max_overlap: largest share of an object that another one may cover.
        same_class: probability with which two objects are made to share their shape.
    """

    long_side: Annotated[int, (16, 2**14)] = 96
    short_sides: tuple[float, ...] = (1.0, 1.0, 0.875, 0.75)
    num_objects: tuple[int, int] = (2, 4)
    object_side: tuple[float, float] = (0.25, 0.5)
    max_overlap: Annotated[float, (0, 1)] = 0.15
    same_class: Annotated[float, (0, 1)] = 0.7

    def __post_init__(self) -> None:
        """Refuse values from which no scene can be made."""
        further = [
            f"{name} is {value!r}, expected the smallest and the largest, at most {most}"
            for name, least, most in (("num_objects", 1, 1000), ("object_side", 0, 1))
            if not _is_span(value := getattr(self, name), least, most)
        ]
        sides = self.short_sides if isinstance(self.short_sides, list | tuple) else ()
        if not (sides and all(isinstance(side, Real) and 0 < side <= 1 for side in sides)):
            further.append(f"short_sides is {self.short_sides!r}, expected fractions above 0")
        check_fields(self, "scenes", further=further)


def _is_span(value: Any, least: float, most: float) -> bool:
    """Return whether a value is two ordered, positive numbers from `least` to `most`."""
    if not (isinstance(value, list | tuple) and len(value) == 2):
        return False
    if not all(isinstance(end, Real) for end in value):
        return False
    return 0 < value[0] and least <= value[0] <= value[1] <= most


@dataclass(frozen=True)
class SceneObject:
    """One object; `box` is its full extent in xyxy pixels, even if another object covers it."""

    shape: str
    colour: str
    texture: str
    box: Box

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the box's centre, pixels."""
        x1, y1, x2, y2 = self.box
        return (x1 + x2) / 2, (y1 + y2) / 2

    @property
    def area(self) -> float:
        """Area of the box, square pixels."""
        x1, y1, x2, y2 = self.box
        return (x2 - x1) * (y2 - y1)


@dataclass(frozen=True)
class Scene:
    """Content of an image: `objects` in painting order; `seed` determines textures and clutter."""

    width: int
    height: int
    objects: tuple[SceneObject, ...]
    seed: int


def sample_scene(rng: np.random.Generator, config: SceneConfig | None = None) -> Scene:
    """Draw one scene; the same generator state gives the same scene."""
    config = config or SceneConfig()
    width, height = _image_size(rng, config)
    count = int(rng.integers(config.num_objects[0], config.num_objects[1] + 1))
    boxes = _place_boxes(rng, config, count, width, height)
    looks = _choose_looks(rng, len(boxes), config.same_class)
    objects = tuple(SceneObject(*look, box) for look, box in zip(looks, boxes, strict=True))
    return Scene(width, height, objects, int(rng.integers(2**31)))


def _image_size(rng: np.random.Generator, config: SceneConfig) -> tuple[int, int]:
    short = round(config.long_side * float(rng.choice(config.short_sides)))
    return (config.long_side, short) if rng.random() < 0.5 else (short, config.long_side)


def _place_boxes(
    rng: np.random.Generator, config: SceneConfig, count: int, width: int, height: int
) -> list[Box]:
    low, high = (side * config.long_side for side in config.object_side)
    boxes: list[Box] = []
    for attempt in range(60 * count):
        # A full image has room for small objects only: shrink the range with each attempt.
        top = max(low, high * (1 - attempt / (80 * count)))
        w = rng.uniform(low, top)
        h = float(np.clip(w * rng.uniform(0.75, 1.33), low, min(top, height)))
        x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
        box = (round(x, 1), round(y, 1), round(x + w, 1), round(y + h, 1))
        if all(_covered_share(box, other) <= config.max_overlap for other in boxes):
            boxes.append(box)
        if len(boxes) == count:
            break
    return boxes


def _covered_share(a: Box, b: Box) -> float:
    """Return the intersection of two boxes as a share of the smaller one."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return w * h / smaller


def _choose_looks(
    rng: np.random.Generator, count: int, same_class: float
) -> list[tuple[str, str, str]]:
    shapes = [str(rng.choice(SHAPES)) for _ in range(count)]
    if count > 1 and rng.random() < same_class:
        first, second = rng.choice(count, size=2, replace=False)
        shapes[second] = shapes[first]
    colours = rng.choice(list(COLOURS), size=count)
    textures = rng.choice(TEXTURES, size=count, p=(0.5, 0.25, 0.25))
    return [(s, str(c), str(t)) for s, c, t in zip(shapes, colours, textures, strict=True)]
