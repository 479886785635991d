"""Boxes that are no boxes of their image."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from clipvg.pseudo.observation import Box, Candidate, Detection, Observation, Relation
from clipvg.pseudo.plane import clip_box

T = TypeVar("T", Candidate, Detection, Relation)


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

    def valid(items: Iterable[T], noun: str) -> tuple[T, ...]:
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
