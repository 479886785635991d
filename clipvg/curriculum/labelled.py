"""Join annotated labels with pseudo-labels, and refuse pseudo-labels that contradict them."""

from __future__ import annotations

import warnings
from collections import defaultdict

import numpy as np

from clipvg.boxes import iou
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.labels.pairs import plain
from clipvg.labels.read import OnError

LABELLED = "adapt.labelled"  # column that tells annotated labels from pseudo-labels
_SAME = 0.5  # IoU at which two boxes count as the same answer


def join_labelled(
    labelled: LabelTable, unlabelled: LabelTable, *, on_error: OnError = "raise"
) -> LabelTable:
    """Return annotated labels followed by pseudo-labels, told apart by the column `LABELLED`.

    Args:
        labelled: annotated labels, whose boxes are correct.
        unlabelled: pseudo-labels, of the same images or others.
        on_error: "drop" leaves out pseudo-labels whose image and expression are annotated with
            another box (IoU < 0.5), with a warning; "raise" refuses them.

    Raises:
        InputError: there is such a pseudo-label, all are such, or one of the tables is empty.
    """
    for table, what in ((labelled, "annotated labels"), (unlabelled, "pseudo-labels")):
        if not len(table):
            raise InputError(f"there are no {what}; semi-supervised adapting needs both kinds.")
    differs = _differs(labelled, unlabelled)
    if count := int(differs.sum()):
        row = int(differs.argmax())
        first = f"{unlabelled.expressions[row]!r} of {unlabelled.image_names[row]}"
        what = f"{count:,} of {len(unlabelled):,} pseudo-labels have another box than the annotated"
        what += f" labels of their image and expression (the first: {first})"
        if on_error == "raise":
            raise InputError(f"{what}; leave them out, or pass on_error='drop'")
        if count == len(unlabelled):
            raise InputError(f"{what}, so none is left; pass pseudo-labels of other images")
        warnings.warn(f"{what}: they are left out", stacklevel=2)
        unlabelled = unlabelled.select(~differs)
    both = LabelTable.concat([labelled, unlabelled])
    return both.with_column(LABELLED, np.arange(len(both)) < len(labelled))


def is_labelled(labels: LabelTable) -> np.ndarray:
    """Return which rows are annotated, (N,) bool; none unless `join_labelled` made the table."""
    if LABELLED not in labels.table.column_names:
        return np.zeros(len(labels), bool)
    return np.asarray(labels.table.column(LABELLED).to_numpy(), dtype=bool)


def _differs(labelled: LabelTable, unlabelled: LabelTable) -> np.ndarray:
    """Return (N,) bool: pseudo-labels whose image and expression are annotated with other boxes."""
    rows_of: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, key in enumerate(_keys(labelled)):
        rows_of[key].append(row)
    given, boxes = labelled.boxes(), unlabelled.boxes()
    differs = np.zeros(len(unlabelled), bool)
    for row, key in enumerate(_keys(unlabelled)):
        if rows := rows_of.get(key):
            differs[row] = (iou(np.tile(boxes[row], (len(rows), 1)), given[rows]) < _SAME).all()
    return differs


def _keys(labels: LabelTable) -> list[tuple[str, str]]:
    """Return the image path and the normalised expression of each row."""
    names, image_of = labels.distinct_images()
    paths = [str(labels.image_path(name)) for name in names]
    texts = map(plain, labels.expressions)
    return [(paths[image], text) for image, text in zip(image_of, texts, strict=True)]
