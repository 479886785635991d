"""Labels that say the same twice, or of one expression two things."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipvg.labels.check.finding import Finding, show_box
from clipvg.labels.schema import encode_names
from clipvg.labels.table import LabelTable


def find_repeats(labels: LabelTable) -> list[Finding]:
    """Return labels that repeat an earlier one, and expressions with several boxes in an image."""
    if not len(labels):
        return []
    texts = labels.table.column("expression").cast(pa.string())
    plain = encode_names(pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(texts, ""))))
    images = labels.distinct_images()[1]
    key = images * len(plain.dictionary) + plain.indices.to_numpy()
    boxes = labels.boxes()
    order = np.lexsort((*boxes.T[::-1], key))  # stable: of equal labels the first row comes first
    same_key = key[order][1:] == key[order][:-1]
    same_box = (boxes[order][1:] == boxes[order][:-1]).all(axis=1)
    again = np.concatenate([[False], same_key & same_box])
    repeated = np.zeros(len(labels), bool)
    repeated[order] = again
    starts = np.flatnonzero(~np.concatenate([[False], same_key]))
    is_other = ~again & np.isfinite(boxes[order]).all(axis=1)
    distinct = np.add.reduceat(
        is_other, starts, dtype=np.int64
    )  # boxes of each expression of an image
    sizes = np.diff([*starts, len(order)])
    several = np.zeros(len(labels), bool)
    several[order] = np.repeat(distinct > 1, sizes)
    several &= ~repeated & np.isfinite(boxes).all(axis=1)
    names = labels.table.column("image")

    def explain(row: int) -> str:
        return f"{texts[row].as_py()!r} {show_box(boxes[row])} on {names[row].as_py()}"

    return [
        *Finding.of_rows(
            "duplicate",
            "labels that repeat an earlier one: image, expression and box",
            repeated,
            explain,
            remedy="They count twice in training; clipvg labels merge keeps one of "
            "those that are equal in source and split too.",
        ),
        *Finding.of_rows(
            "ambiguous",
            "labels whose expression has several boxes in its image",
            several,
            explain,
            remedy="At most one of them is what a model can learn to find.",
        ),
    ]
