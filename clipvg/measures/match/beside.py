"""Observed objects that no label shows, beside the labels: rivals that a matcher compares with."""

from __future__ import annotations

import numpy as np

from clipvg.boxes import iou
from clipvg.labels import LabelTable
from clipvg.pseudo.meaning import look_at
from clipvg.pseudo.observation import Box
from clipvg.pseudo.observations import ObservationTable

BESIDE = "match.beside"  # column that tells observed boxes from labels
_MOST = 16  # objects of an image
_SHOWN = 0.2  # IoU from which a label may show an object, be it with a box badly placed


def with_observed(labels: LabelTable, observations: ObservationTable) -> LabelTable:
    """Return the labels, and after them a row for each observed object that none of them shows.

    Args:
        labels: N labels.
        observations: of their images, and perhaps of others.

    Returns:
        N labels as they are and M objects; column `BESIDE` tells which row is which.
    """
    names, image_of = labels.distinct_images()
    place = {name: i for i, name in enumerate(names)}
    boxes, order = labels.boxes(), np.argsort(image_of, kind="stable")
    starts = np.searchsorted(image_of[order], np.arange(len(names) + 1))
    images: list[str] = []
    called: list[str] = []
    found: list[Box] = []
    for observation in observations:
        at = place.get(observation.image)
        if at is None:
            continue
        shown = boxes[order[starts[at] : starts[at + 1]]]
        for one in look_at(observation)[:_MOST]:
            if (iou(np.tile(one.box, (len(shown), 1)), shown) < _SHOWN).all():
                images.append(observation.image)
                called.append(one.seen[0].name)
                found.append(one.box)
    if images:
        corners = np.array(found, np.float32)
        rest = LabelTable.from_columns(
            images=labels.images, image=images, expression=called, box=corners
        )
        labels = LabelTable.concat([labels, rest])
    return labels.with_column(BESIDE, np.arange(len(labels)) >= len(labels) - len(images))
