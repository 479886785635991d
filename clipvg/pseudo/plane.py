"""Single boxes, xyxy in pixels, for rules that look at a handful; and those that are none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from clipvg.pseudo.observation import Box, Candidate, Detection, Observation, Relation

T = TypeVar("T")


def clip_box(box: Box, width: int | None, height: int | None) -> Box | None:
    """Return the part of a box inside the image, None where nothing is left of it.

    Without a size only the sides at 0 clip.
    """
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2 = box[2] if width is None else min(box[2], float(width))
    y2 = box[3] if height is None else min(box[3], float(height))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def area(box: Box) -> float:
    """Return the area of a box; 0 where it is reversed."""
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
    """Return the IoU of two boxes; 0 where both are empty."""
    shared = shared_area(first, second)
    return shared / (area(first) + area(second) - shared) if shared else 0.0


def centre(box: Box) -> tuple[float, float]:
    """Return the middle of a box."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def share_inside(box: Box, other: Box) -> float:
    """Return the share of a box that lies inside another; 0 for an empty box."""
    shared = shared_area(box, other)
    return shared / area(box) if shared else 0.0


def distinct(items: Iterable[T], is_double: Callable[[T, T], bool]) -> list[T]:
    """Return items without those that double one that is kept before them."""
    kept: list[T] = []
    for item in items:
        if not any(is_double(item, other) for other in kept):
            kept.append(item)
    return kept


def gap(first: Box, second: Box) -> float:
    """Return the distance between two boxes; 0 where they meet."""
    across = max(first[0], second[0]) - min(first[2], second[2])
    down = max(first[1], second[1]) - min(first[3], second[3])
    return math.hypot(max(0.0, across), max(0.0, down))


Boxed = TypeVar("Boxed", Candidate, Detection, Relation)


def size_of(observation: Observation) -> tuple[int, int] | None:
    """Return width and height of an image, None where they are not known."""
    width, height = observation.width, observation.height
    return None if width is None or height is None else (width, height)


def box_fault(box: Box, width: int, height: int) -> str | None:
    """Return what is wrong with a box, None where nothing is."""
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
    """Return an observation without the boxes that are none, and what was wrong with those."""
    faults: list[str] = []
    width, height = size_of(observation) or (0, 0)

    def valid(items: Iterable[Boxed], noun: str) -> tuple[Boxed, ...]:
        kept = []
        for index, item in enumerate(items):
            wrong = [
                f"{noun}[{index}]: box {_short(box)} {fault}"
                for box in _boxes(item)
                if (fault := box_fault(box, width, height))
            ]
            faults.extend(wrong)
            if not wrong:
                kept.append(item)
        return tuple(kept)

    detections = valid(observation.detections, "detections")
    attributes = valid(observation.attribute_detections, "attribute_detections")
    relations = valid(observation.relations, "relations")
    candidates = {
        name: valid(made, f"candidates of {name!r}")
        for name, made in observation.candidates.items()
    }
    if not faults:
        return observation, faults
    return replace(
        observation,
        detections=detections,
        attribute_detections=attributes,
        relations=relations,
        candidates=candidates,
    ), faults


def clipped(observation: Observation) -> Observation:
    """Return an observation whose detections end where the image ends."""
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
