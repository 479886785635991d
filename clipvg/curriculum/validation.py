"""What decides: given validation labels or, without them, a held-out part of the pseudo-labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.matrix import ScoreMatrix


def hold_out(
    labels: LabelTable,
    share: float = 0.1,
    *,
    seed: int = 0,
    sides: Mapping[str, bool] | None = None,
) -> np.ndarray:
    """Say which labels are held out, by image: no image is on both sides.

    Which images are held out depends on their names and the seed alone, not on their order.

    Args:
        labels: N labels on at least two images.
        share: share of the images to hold out, in (0, 1); at least one image, never all.
        seed: of the choice.
        sides: images whose side is decided: name -> whether it is held out. The share is of the
            others.

    Returns:
        (N,) bool.

    Raises:
        InputError: the share is outside (0, 1), or there are fewer than two images.
    """
    names, image_of = labels.distinct_images()
    sides = sides or {}
    if not 0 < share < 1:
        raise InputError(f"held-out share is {share}; expected between 0 and 1, e.g. 0.1.")
    if len(names) < 2:
        raise InputError(
            f"the labels are on {len(names)} image(s), too few to hold some out; pass annotated "
            "labels as validation."
        )
    is_held = np.array([sides.get(name, False) for name in names])
    free = [i for i, name in enumerate(names) if name not in sides]
    draws = {i: hashlib.sha256(f"{seed}:{names[i]}".encode()).digest() for i in free}
    count = round(share * len(free))
    if not sides:
        count = min(max(1, count), len(names) - 1)
    is_held[sorted(free, key=draws.__getitem__)[:count]] = True
    return is_held[image_of]


def agreement_with_others(scores: ScoreMatrix) -> np.ndarray:
    """Say how far measurers of other sources agree with each label.

    Args:
        scores: reliability of N labels by n measurers.

    Returns:
        (N,) float32 in [0, 1], mean reliability over the measurers that were not trained on the
        label's source; 0 where there is none or none scored it.
    """
    others = np.stack([scores.cross(name) for name in scores.names])
    count = np.isfinite(others).sum(axis=0)
    return (np.nansum(others, axis=0) / np.maximum(count, 1)).astype(np.float32)
