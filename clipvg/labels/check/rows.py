"""Find rows that cannot be labels, which readers refuse or drop; and odd boxes, which they keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipvg.boxes import convert
from clipvg.labels.box_column import any_of, as_mask, box_values, in_blocks, is_finite
from clipvg.labels.check.finding import Finding, show_box
from clipvg.labels.schema import BOX_FORMATS, FAULT, RELIABILITY
from clipvg.labels.table import LabelTable

MAX_COORDINATE = 1e7  # pixels; beyond, float32 cannot represent a tenth of one
MAX_WEIGHT = 1e6
_TINY = 0.01  # of the image's longer side: two pixels of a model's input
_TINY_PIXELS = 4  # where the image size is unknown
_FIX = "Fix the rows or read with on_error='drop'."


def find_bad_rows(labels: LabelTable) -> Iterator[Finding]:
    """Yield findings on rows that cannot be labels: no text, no box, or invalid numbers."""
    yield from _blank(labels)
    yield from _bad_boxes(labels)
    yield from _unknown_words(labels, "format", BOX_FORMATS, "is neither xyxy nor xywh")
    yield from _unknown_words(labels, "unit", ("pixel",), "is none of pixel, unit and thousand")
    yield from _bad_numbers(labels)


def _blank(labels: LabelTable) -> Iterator[Finding]:
    for name, kind in (("image", "path"), ("expression", "empty-expression")):
        column = pc.fill_null(labels.table.column(name), "")
        blank = as_mask(pc.equal(pc.utf8_trim_whitespace(column), ""))
        title = f"labels without {'the name of an image' if name == 'image' else 'an expression'}"
        text = f"the {name} is empty"
        yield from Finding.of_rows(kind, title, blank, _always(text), remedy=_FIX)


def _always(text: str) -> Callable[[int], str]:
    return lambda _: text


def _bad_boxes(labels: LabelTable) -> Iterator[Finding]:
    is_there = FAULT in labels.table.column_names
    faults = labels.table.column(FAULT) if is_there else pa.nulls(len(labels), pa.string())
    written = box_values(labels.table.column("box"))
    finite = in_blocks(is_finite, written)
    far = in_blocks(lambda boxes: any_of(np.abs(boxes) > MAX_COORDINATE), written)
    yield from Finding.of_rows(
        "value",
        "boxes that are not four finite numbers",
        ~finite | as_mask(faults.is_valid()),
        lambda row: faults[row].as_py() or _no_box(written[row]),
        remedy=_FIX,
    )
    yield from Finding.of_rows(
        "value",
        "boxes too far away",
        finite & far,
        lambda row: f"box {show_box(written[row])} lies beyond {MAX_COORDINATE:g} pixels",
        remedy=_FIX,
    )
    yield from _reversed(labels, written, finite)


def _no_box(box: np.ndarray) -> str:
    if np.isnan(box).all():
        return "box is missing, or not four numbers"
    return f"box {show_box(box)} is not four finite numbers"


def _spans(boxes: np.ndarray, as_sides: np.ndarray) -> np.ndarray:
    """Return (N, 2) width and height."""
    span = boxes[:, 2:] - boxes[:, :2]
    span[as_sides] = boxes[as_sides, 2:]
    return span


def _reversed(labels: LabelTable, written: np.ndarray, finite: np.ndarray) -> list[Finding]:
    as_sides = labels.is_xywh()
    span = in_blocks(_spans, written, as_sides)

    def explain(row: int) -> str:
        axis = int(span[row, 0] >= 0)
        if as_sides[row]:
            fault = f"a negative {('width', 'height')[axis]}; expected xywh pixels"
        else:
            fault = f"{('x2 < x1', 'y2 < y1')[axis]}; expected xyxy pixels"
        return f"box {show_box(written[row])} has {fault}"

    return Finding.of_rows(
        "reversed",
        "boxes that end before they begin",
        finite & any_of(span < 0),
        explain,
        remedy="If boxes are written otherwise, say how with box_format='xyxy', "
        "box_format='xywh' or box_format='cxcywh'. " + _FIX,
    )


def _unknown_words(
    labels: LabelTable, kind: str, known: Sequence[str], fault: str
) -> list[Finding]:
    """Return the finding on unknown values of box_format or box_unit; null is the default."""
    name = f"box_{kind}"
    if name not in labels.table.column_names:
        return []
    words = pc.fill_null(labels.table.column(name).cast(pa.string()), known[0])
    return Finding.of_rows(
        kind,
        f"unknown {kind}s of boxes",
        ~as_mask(pc.is_in(words, pa.array(known))),
        lambda row: f"{name} {words[row].as_py()!r} {fault}",
        remedy="Write one of them in the column. " + _FIX,
    )


def _bad_numbers(labels: LabelTable) -> Iterator[Finding]:
    weights = labels.weights()
    yield from Finding.of_rows(
        "value",
        "weights that cannot be",
        ~((weights >= 0) & (weights <= MAX_WEIGHT)),
        lambda row: f"weight {weights[row]:g} is not a number from 0 to {MAX_WEIGHT:g}",
        remedy=_FIX,
    )
    for name in labels.reliability_names:
        yield from _bad_scores(RELIABILITY + name, labels.reliability(name))


def _bad_scores(name: str, scores: np.ndarray) -> list[Finding]:
    return Finding.of_rows(
        "value",
        f"values of {name} that cannot be",
        (scores < 0) | (scores > 1),
        lambda row: f"{name} is {scores[row]:g}, outside [0, 1]",
        remedy=_FIX,
    )


def find_odd_boxes(labels: LabelTable, sizes: np.ndarray) -> Iterator[Finding]:
    """Yield findings on boxes that are empty, tiny, or partly or wholly outside their image.

    Sizes (N, 2) are the (width, height) of the images, below 0 where unknown.
    """
    written = box_values(labels.table.column("box"))
    corners = np.where(labels.is_xywh()[:, None], convert(written, "xywh", "xyxy"), written)
    low, high = corners[:, :2], corners[:, 2:]
    span = high - low
    forward = np.all(span >= 0, axis=1)  # False for NaN
    empty = forward & (span == 0).any(axis=1)
    known = np.all(sizes > 0, axis=1)
    smallest = np.where(known, _TINY * sizes.max(axis=1), _TINY_PIXELS)
    tiny = forward & ~empty & (span.min(axis=1) < smallest)
    right = np.where(known[:, None], sizes, np.inf)
    wholly = forward & ((high <= 0) | (low >= right)).any(axis=1)
    # Half a pixel is rounding, not a finding.
    partly = forward & ~wholly & np.any((low < -0.5) | (high > right + 0.5), axis=1)

    def explain(row: int) -> str:
        size = f"a {sizes[row, 0]}x{sizes[row, 1]}" if known[row] else "an"
        return f"box {show_box(written[row])} of {size} image"

    leave_out = "Look at them with clipvg labels show; leave them out if they are mistakes."
    yield from Finding.of_rows("empty-box", "boxes without area", empty, explain, remedy=leave_out)
    yield from Finding.of_rows(
        "tiny", "boxes too small to be seen by a model", tiny, explain, remedy=leave_out
    )
    yield from Finding.of_rows(
        "outside",
        "boxes wholly outside of their image",
        wholly,
        explain,
        remedy="Are these the images that were labelled, in their size? " + leave_out,
        severity="warning",
    )
    yield from Finding.of_rows(
        "outside",
        "boxes that reach outside of their image",
        partly,
        explain,
        remedy="They are used as they are; nothing needs doing where it is little.",
    )
    yield from _odd_truth(labels)


def _odd_truth(labels: LabelTable) -> list[Finding]:
    truth = labels.truth()
    given = ~np.isnan(truth).all(axis=1)
    good = np.isfinite(truth).all(axis=1) & (truth[:, 2:] >= truth[:, :2]).all(axis=1)
    return Finding.of_rows(
        "truth",
        "true boxes that are no boxes",
        given & ~good,
        lambda row: f"truth {show_box(truth[row])} is no xyxy box",
        remedy="Write column truth as xyxy pixels.",
    )
