"""Which of an image's boxes a phrase means, by what CLIP says and by where the boxes lie.

A phrase's words give a probability to each box. A word that singles one out, "left", multiplies it
by the probability that no box before it is meant as well; a relation by the probability that one of
the boxes that it holds for is the landmark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from clipvg.boxes import area
from clipvg.pseudo.meaning.fitting import just
from clipvg.pseudo.meaning.phrases import Phrase

_INSIDE = 0.5  # share of a box inside another from which it is in it


def resolve(
    phrase: Phrase, boxes: np.ndarray, size: tuple[int, int], judge: Callable[[str], np.ndarray]
) -> np.ndarray:
    """Return the probability of each box that it is what a phrase means.

    Args:
        phrase: from `read_phrase`.
        boxes: (K, 4) xyxy pixels, K at least 1.
        size: width and height of the image.
        judge: gives CLIP's probabilities (K,), of sum 1, for the words of a phrase.

    Returns:
        (K,) of sum 1. What is said of places is left out where no box can be meant by it.
    """
    chances = judge(phrase.text)
    if phrase.relation and phrase.landmark:
        there = resolve(phrase.landmark, boxes, size, judge)
        chances = _scaled(chances * (holds(phrase.relation, boxes) @ there), chances)
    if phrase.extremes:
        alike = chances / chances.max()  # as likely as the best: of two dogs both are dogs
        order = np.sum([_order(extreme, boxes, size) for extreme in phrase.extremes], 0)
        first = [just(phrase.nth, alike[order > own].tolist()) for own in order]
        chances = _scaled(chances * np.array(first), chances)
    return chances


def holds(relation: str, boxes: np.ndarray) -> np.ndarray:
    """Return for which pairs of boxes a relation holds, (K, K) 0 or 1, rows the first of each."""
    x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
    sizes = area(boxes)
    tables: Mapping[str, np.ndarray] = {
        "left": x[:, None] < x,
        "right": x[:, None] > x,
        "above": y[:, None] < y,
        "below": y[:, None] > y,
        "bigger": sizes[:, None] > sizes,
        "smaller": sizes[:, None] < sizes,
        "inside": _lies_inside(boxes, sizes),
    }
    return tables[relation].astype(np.float64)


def _lies_inside(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    low = np.maximum(boxes[:, None, :2], boxes[:, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    shared = area(np.concatenate([low, high], -1))
    return (shared >= _INSIDE * sizes[:, None]) & (sizes[:, None] < sizes)


def _order(extreme: str, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """How far each box comes before others, (K,), in shares of the image."""
    x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2 / np.array(size)[:, None]
    big = area(boxes) / (size[0] * size[1])
    orders = {"left": -x, "right": x, "top": -y, "bottom": y, "big": big, "small": -big}
    return orders[extreme] if extreme in orders else -abs(x - 0.5)


def _scaled(chances: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    total = chances.sum()
    return chances / total if total > 0 else otherwise
