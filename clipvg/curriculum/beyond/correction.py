"""Box correction: find labels for which several models agree on another box."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from clipvg.boxes import convert, iou
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.labels.box_column import box_values

OLD_BOX, AGREEMENT = "adapt.old_box", "adapt.agreement"


@dataclass(frozen=True, eq=False)
class Agreed:
    """Labels for which models agree on another box."""

    rows: np.ndarray  # (M,) int64, rows of the labels, ascending
    boxes: np.ndarray  # (M, 4) float64 xyxy pixels, the new boxes
    agreement: np.ndarray  # (M,) float64 in [0, 1], least IoU between two models' boxes

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, keep: np.ndarray) -> Agreed:
        """Return those of the labels that a bool mask over all labels keeps."""
        here = keep[self.rows]
        return Agreed(self.rows[here], self.boxes[here], self.agreement[here])

    def apply(self, labels: LabelTable) -> LabelTable:
        """Return all labels, those in ``rows`` with their new box in the format of each row."""
        written = box_values(labels.table.column("box")).copy()
        as_sides = labels.is_xywh(self.rows)[:, None]
        written[self.rows] = np.where(as_sides, convert(self.boxes, "xyxy", "xywh"), self.boxes)
        return labels.with_column("box", written)

    def table(self, labels: LabelTable) -> LabelTable:
        """Return only the labels in ``rows``, with new box, old box and the models' agreement."""
        there = self.apply(labels).select(self.rows)
        old = labels.boxes(rows=self.rows).astype(np.float64)
        return there.with_column(OLD_BOX, old.tolist()).with_column(AGREEMENT, self.agreement)


def agreed_boxes(
    boxes: np.ndarray, label_boxes: np.ndarray, agreement: float = 0.7, low: float = 0.5
) -> Agreed:
    """Find labels for which all models agree on another box.

    Another: each model's box has an IoU below ``low`` with the label's. Agree: any two models'
    boxes have an IoU of at least ``agreement``. The new box is their mean.

    Args:
        boxes: (k, N, 4) xyxy pixels, the boxes of k >= 2 models; NaN where there is none.
        label_boxes: (N, 4) xyxy pixels.
        agreement: least IoU between two models' boxes.
        low: IoU with the label's box at which a model confirms the label.

    Raises:
        InputError: there are fewer than two models.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    if len(boxes) < 2:
        raise InputError(
            f"{len(boxes)} model has no other to agree with; correct labels with two or more."
        )
    pairs = [iou(boxes[i], boxes[j]) for i, j in combinations(range(len(boxes)), 2)]
    least = np.min(pairs, axis=0)
    confirmed = np.max([iou(each, label_boxes) for each in boxes], axis=0)
    # A comparison with NaN is False.
    rows = np.flatnonzero((least >= agreement) & (confirmed < low))
    return Agreed(rows, boxes[:, rows].mean(axis=0), least[rows])
