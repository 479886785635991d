"""A held-out part of the pseudo-labels, where no annotated validation labels are given."""

from __future__ import annotations

import hashlib

import numpy as np

from clipvg.errors import InputError
from clipvg.labels import LabelTable


def hold_out(
    labels: LabelTable, share: float = 0.1, *, seed: int = 0
) -> tuple[LabelTable, LabelTable]:
    """Split labels by image into training and held-out labels.

    No image is on both sides. Which images are held out depends on their names and the seed
    alone, not on their order.

    Args:
        labels: N labels on at least two images.
        share: share of the images to hold out, in (0, 1); at least one image, never all.
        seed: of the choice.

    Returns:
        (training labels, held-out labels), each in input order.

    Raises:
        InputError: the share is outside (0, 1), or there are fewer than two images.
    """
    names, image_of = labels.distinct_images()
    if not 0 < share < 1:
        raise InputError(f"held-out share is {share}; expected between 0 and 1, e.g. 0.1.")
    if len(names) < 2:
        raise InputError(
            f"the labels are on {len(names)} image(s), too few to hold some out; pass annotated "
            "labels as validation."
        )
    draws = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in names]
    order = sorted(range(len(names)), key=draws.__getitem__)
    count = min(max(1, round(share * len(names))), len(names) - 1)
    is_held = np.zeros(len(names), dtype=bool)
    is_held[order[:count]] = True
    held = is_held[image_of]
    return labels.select(~held), labels.select(held)
