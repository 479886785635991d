"""Boxes that are read right, and odd: empty, tiny, outside of their image."""

from __future__ import annotations

import numpy as np

from clipvg.boxes import convert
from clipvg.labels.box_column import box_values
from clipvg.labels.check.finding import Finding, show_box
from clipvg.labels.table import LabelTable

_TINY = 0.01  # of the image's longer side: two pixels of what a model sees
_TINY_PIXELS = 4  # where that is not known


def find_odd_boxes(labels: LabelTable, sizes: np.ndarray) -> list[Finding]:
    """Return boxes without area, tiny ones, and those that reach or lie outside their image.

    Sizes (N, 2) are those of the images, below 0 where not known.
    """
    written = box_values(labels.table.column("box"))
    corners = np.where(labels.is_xywh()[:, None], convert(written, "xywh", "xyxy"), written)
    low, high = corners[:, :2], corners[:, 2:]
    span = high - low
    forward = np.all(span >= 0, axis=1)  # no NaN
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
    return [
        *Finding.of_rows("empty-box", "boxes without area", empty, explain, remedy=leave_out),
        *Finding.of_rows(
            "tiny", "boxes too small to be seen by a model", tiny, explain, remedy=leave_out
        ),
        *Finding.of_rows(
            "outside",
            "boxes wholly outside of their image",
            wholly,
            explain,
            remedy="Are these the images that were labelled, in their size? " + leave_out,
            severity="warning",
        ),
        *Finding.of_rows(
            "outside",
            "boxes that reach outside of their image",
            partly,
            explain,
            remedy="They are used as they are; nothing needs doing where it is little.",
        ),
        *_odd_truth(labels),
    ]


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
