"""Areas and overlaps of single boxes, in double precision."""

from __future__ import annotations

from clipvg.pseudo.observation import Box


def area(box: Box) -> float:
    """Return the area of a box in square pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def intersection(one: Box, other: Box) -> float:
    """Return the area that two boxes share, 0 where they do not meet."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def iou(one: Box, other: Box) -> float:
    """Return intersection over union; 0 for boxes without area."""
    shared = intersection(one, other)
    return shared / (area(one) + area(other) - shared) if shared else 0.0


def centre(box: Box) -> tuple[float, float]:
    """Return the middle of a box."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def clip(box: Box, width: float, height: float) -> Box:
    """Return the part of a box that lies inside the image."""
    x1, y1 = min(max(box[0], 0.0), width), min(max(box[1], 0.0), height)
    x2, y2 = min(max(box[2], 0.0), width), min(max(box[3], 0.0), height)
    return x1, y1, x2, y2
