"""Detect boxes that are read in the wrong format or unit, and find a format or unit that fits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipvg.boxes import FORMATS, convert
from clipvg.labels.box_column import all_of, any_of, box_values, in_blocks, is_finite
from clipvg.labels.check.finding import Finding, show_box
from clipvg.labels.table import LabelTable
from clipvg.labels.units import UNITS

_MARGIN = 0.02  # of the image: annotators and detectors may slightly exceed its edges
_SUSPICIOUS = 1 / 3  # share of implausible boxes from which another reading is sought
_FEWEST = 3  # least number of them, unless all coordinates are about 0 to 1
_EXPLAINED = 0.01  # largest share of implausible boxes in a proposed reading
_UNIT_END = 1.2  # coordinates below this may be fractions of the image
_ENOUGH = 200  # number of boxes from which coincidence is ruled out
_LONG = {"xyxy": "[x1, y1, x2, y2]", "xywh": "[x, y, width, height]",
         "cxcywh": "[centre x, centre y, width, height]"}  # fmt: skip


class _Reading(NamedTuple):
    """One way to read all boxes, and the share of them that is implausible in it."""

    box_format: str
    box_unit: str
    share: float


def find_misreading(labels: LabelTable, sizes: np.ndarray) -> list[Finding]:
    """Return a finding if boxes seem to have another unit or format than they are read in.

    Sizes (N, 2) are the (width, height) of the images, below 0 where unknown.
    """
    written = box_values(labels.table.column("box"))
    finite = in_blocks(is_finite, written)
    usable = np.flatnonzero(finite)
    if not len(usable):
        return []
    boxes, sides, of_image = written, labels.is_xywh(), sizes.astype(float)
    if not finite.all():
        boxes, sides, of_image = written[usable], sides[usable], of_image[usable]
    read = boxes
    if sides.any():
        read = np.where(sides[:, None], convert(boxes, "xywh", "xyxy"), boxes)
    unit_sized = in_blocks(_is_unit_sized, boxes)
    odd = in_blocks(_misfits, read, of_image) | unit_sized
    likely = _likely(boxes, sides, of_image, odd, read)
    if not likely:
        return []
    unit, formats = likely[0].box_unit, [each.box_format for each in likely]
    odd = odd if odd.any() else np.ones(len(odd), bool)
    kind = "format" if unit == "pixel" else "unit"
    as_read = "xywh" if sides.mean() > 0.5 else "xyxy"
    if unit == "pixel" and as_read in formats and unit_sized[odd].all():
        return Finding.of_rows(
            "unit",
            "boxes of a pixel or less, as those from 0 to 1 are, among boxes in pixels",
            usable[odd],
            lambda row: f"box {show_box(written[row])}{_size_text(sizes[row])}",
            remedy="Put them in a file of their own, and read that with box_unit='unit'.",
        )
    options = [f"box_unit={unit!r}"] if unit != "pixel" else []
    if as_read not in formats or unit == "pixel":
        options.append(" or ".join(f"box_format={each!r}" for each in formats))
    names = " or ".join(f"{each} {_LONG[each]}" for each in formats)
    measure = {"pixel": "in pixels", "unit": "from 0 to 1", "thousand": "from 0 to 1000"}[unit]
    return Finding.of_rows(
        kind,
        f"boxes that make no sense as {as_read} pixels, and look like {names} {measure}",
        usable[odd],
        lambda row: f"box {show_box(written[row])}{_size_text(sizes[row])}",
        remedy=f"Read with {', '.join(options)}.",
    )


def _likely(
    boxes: np.ndarray, sides: np.ndarray, sizes: np.ndarray, odd: np.ndarray, read: np.ndarray
) -> list[_Reading]:
    """Return readings in one unit that make boxes plausible, if they are not as they are read."""
    # One fractional box is enough: the box of a whole image, (0, 0, 1, 1), is not fractional.
    if boxes.max() < _UNIT_END and boxes.min() > -0.5 and _is_unit_sized(boxes).any():
        return _best([_read(boxes, each, "unit", sizes) for each in FORMATS], sides)
    if odd.mean() >= _SUSPICIOUS and odd.sum() >= _FEWEST:
        pixels = [_read(boxes, each, "pixel", sizes) for each in FORMATS]
        thousands = [
            _read(boxes, each, "thousand", sizes) for each in FORMATS if _fills(boxes, each)
        ]
        return _best(pixels, sides) or _best(thousands, sides)
    if _is_corners_as_sides(boxes, sides, sizes):
        return [_read(boxes, "xyxy", "pixel", sizes)]
    if _is_thousand_of_large(read, sizes):
        return _best([_read(boxes, each, "thousand", sizes) for each in FORMATS], sides)
    return []


def _read(boxes: np.ndarray, box_format: str, box_unit: str, sizes: np.ndarray) -> _Reading:
    full = UNITS[box_unit]
    limits = sizes if full is None else np.full_like(sizes, full)
    corners = convert(boxes, box_format, "xyxy")
    return _Reading(box_format, box_unit, float(in_blocks(_misfits, corners, limits).mean()))


def _misfits(corners: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return (N,) bool: boxes that are reversed or leave the image (limits below 0: unknown)."""
    slack = np.maximum(_MARGIN * limits, np.where(limits > 10, 2.0, 0.0))
    slack = np.where(limits > 0, slack, 2.0)
    beyond = (corners[:, 2:] > limits + slack) & (limits > 0)
    low = corners[:, :2] < -slack
    backwards = corners[:, 2:] < corners[:, :2]
    return any_of(beyond | low | backwards)


def _is_unit_sized(boxes: np.ndarray) -> np.ndarray:
    """Return (N,) bool: boxes with coordinates of about 0 to 1, not all whole numbers."""
    found = all_of((boxes > -0.5) & (boxes < _UNIT_END))
    found[found] = any_of(boxes[found] % 1 != 0)
    return found


def _best(readings: list[_Reading], sides: np.ndarray) -> list[_Reading]:
    """Return the readings that explain nearly all boxes, equally well and better than the rest."""
    lowest = min((each.share for each in readings), default=1.0)
    best = [each for each in readings if each.share == lowest <= _EXPLAINED]
    if len(sides) >= _ENOUGH and len(best) > 1:
        # Left and top corners would not all be far enough inside to pass as centres.
        best = [each for each in best if each.box_format == "cxcywh"] or best
    return best


def _fills(boxes: np.ndarray, box_format: str) -> bool:
    """Return whether boxes reach nearly a thousand; in photographs of 640 pixels they do not."""
    ends = convert(boxes, box_format, "xyxy")[:, 2:].max(axis=0)
    return bool(boxes.max() <= 1000 and (ends > 800).all())


def _is_thousand_of_large(read: np.ndarray, sizes: np.ndarray) -> bool:
    """Return whether boxes of large photographs all end within, but near, a thousand pixels."""
    if len(read) < _ENOUGH or not (sizes > 1300).all():
        return False
    ends = read[:, 2:].max(axis=0)
    return bool((ends <= 1000).all() and (ends > 900).all())


def _is_corners_as_sides(boxes: np.ndarray, sides: np.ndarray, sizes: np.ndarray) -> bool:
    """Return whether width and height exceed left and top in every box, as second corners do."""
    away = sides & all_of(boxes[:, :2] > 0)
    if (sizes > 0).any() or away.sum() < _ENOUGH:
        return False
    return bool((boxes[away, 2:] > boxes[away, :2]).all())


def _size_text(size: np.ndarray) -> str:
    width, height = size
    return f" of an image of {width}x{height}" if width > 0 else ""
