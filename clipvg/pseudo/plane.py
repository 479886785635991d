"""Geometry and validation of single boxes, xyxy in pixels, for rules that look at a few of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from clipvg.pseudo.observation import Box, Candidate, Detection, Observation, Relation

T = TypeVar("T")


def clip_box(box: Box, width: int | None, height: int | None) -> Box | None:
    """Return the part of a box inside the image, or None if nothing is left of it.

    An unknown width or height does not clip.
    """
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2 = box[2] if width is None else min(box[2], float(width))
    y2 = box[3] if height is None else min(box[3], float(height))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def area(box: Box) -> float:
    """Return the area of a box; 0 if it is reversed."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def shared_area(first: Box, second: Box) -> float:
    """Return the area that two boxes share."""
    left, top, right, bottom = first
    other_left, other_top, other_right, other_bottom = second
    if right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top:
        return 0.0
    across = min(right, other_right) - max(left, other_left)
    return across * (min(bottom, other_bottom) - max(top, other_top))


def overlap(first: Box, second: Box) -> float:
    """Return the IoU of two boxes; 0 if they share no area."""
    shared = shared_area(first, second)
    return shared / (area(first) + area(second) - shared) if shared else 0.0


def centre(box: Box) -> tuple[float, float]:
    """Return the centre (x, y) of a box."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def share_inside(box: Box, other: Box) -> float:
    """Return the share of a box that lies inside another; 0 for an empty box."""
    shared = shared_area(box, other)
    return shared / area(box) if shared else 0.0


def distinct(items: Iterable[T], is_double: Callable[[T, T], bool]) -> list[T]:
    """Return the items that do not duplicate an item kept before them."""
    kept: list[T] = []
    for item in items:
        if not any(is_double(item, other) for other in kept):
            kept.append(item)
    return kept


def gap(first: Box, second: Box) -> float:
    """Return the distance between two boxes; 0 if they meet."""
    across = max(first[0], second[0]) - min(first[2], second[2])
    down = max(first[1], second[1]) - min(first[3], second[3])
    return math.hypot(max(0.0, across), max(0.0, down))


Boxed = TypeVar("Boxed", Candidate, Detection, Relation)


def size_of(observation: Observation) -> tuple[int, int] | None:
    """Return width and height of an image, or None if they are not known."""
    width, height = observation.width, observation.height
    return None if width is None or height is None else (width, height)


def box_fault(box: Box, width: int, height: int) -> str | None:
    """Return what is wrong with a box, or None if it is valid."""
    x1, y1, x2, y2 = box
    if not math.isfinite(x1 + y1 + x2 + y2):
        return "is not finite; leave it out"
    if x1 > x2 or y1 > y2:
        return "is reversed; write [x1, y1, x2, y2] with x1 < x2 and y1 < y2"
    if x1 == x2 or y1 == y2:
        return "is empty; leave it out"
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return f"is outside the image of {width} × {height}; is it in pixels of the original?"
    return None


def box_faults(observation: Observation) -> tuple[Observation, list[str]]:
    """Return an observation without invalid boxes and classes, and what was wrong with them."""
    faults: list[str] = []
    width, height = size_of(observation) or (0, 0)

    def valid(items: Sequence[Boxed], noun: str) -> list[int]:
        kept = []
        for index, item in enumerate(items):
            wrong = [
                f"{noun}[{index}]: box {_short(box)} {fault}"
                for box in _boxes(item)
                if (fault := box_fault(box, width, height))
            ]
            if isinstance(item, Detection) and not any(map(str.isalnum, item.name)):
                wrong.append(f"{noun}[{index}]: class {item.name!r} is no word; name what it is")
            faults.extend(wrong)
            if not wrong:
                kept.append(index)
        return kept

    detected = valid(observation.detections, "detections")
    attributed = valid(observation.attribute_detections, "attribute_detections")
    related = valid(observation.relations, "relations")
    made = {
        name: [some[i] for i in valid(some, f"candidates of {name!r}")]
        for name, some in observation.candidates.items()
    }
    if not faults:
        return observation, faults
    place: dict[int | None, int] = {index: at for at, index in enumerate(detected)}
    return replace(
        observation,
        detections=tuple(observation.detections[i] for i in detected),
        attribute_detections=tuple(observation.attribute_detections[i] for i in attributed),
        relations=tuple(observation.relations[i] for i in related),
        candidates={
            name: tuple(replace(one, detection=place.get(one.detection)) for one in some)
            for name, some in made.items()
        },
    ), faults


def clipped(observation: Observation) -> Observation:
    """Return an observation whose detections are clipped to the image."""
    width, height = size_of(observation) or (0, 0)
    return replace(
        observation,
        detections=tuple(_clip(one, width, height) for one in observation.detections),
        attribute_detections=tuple(
            _clip(one, width, height) for one in observation.attribute_detections
        ),
    )


def _clip(found: Detection, width: int, height: int) -> Detection:
    box = clip_box(found.box, width, height) or found.box
    return Detection(found.name, box, found.score, found.attributes)


def _boxes(item: Candidate | Detection | Relation) -> tuple[Box, ...]:
    return (item.subject_box, item.object_box) if isinstance(item, Relation) else (item.box,)


def _short(box: Box) -> str:
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"
