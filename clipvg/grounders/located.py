"""Boxes that a grounder finds for the expressions of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

OUTSIDE = "the model's box lies outside the image"
CROSSED = "the model's answer is no corners of a box"
UNSURE = "the model gives no number for the box or its score"


@dataclass(frozen=True, eq=False)
class Located:
    """Answers to the N expressions of an image.

    Attributes:
        boxes: (N, 4) float32 xyxy pixels inside the image; NaN where there is none.
        scores: (N,) float32 in [0, 1]; NaN where there is no box.
        reasons: why there is no box; None where there is one.
    """

    boxes: np.ndarray
    scores: np.ndarray
    reasons: list[str | None]

    @classmethod
    def nothing(cls, count: int, why: str | None = None) -> Located:
        """Return no boxes for `count` expressions: to be put in, or with the reason why not."""
        empty = np.full((count, 5), np.nan, np.float32)
        return cls(empty[:, :4], empty[:, 4], [why] * count)

    def put(
        self, places: Sequence[int], boxes: np.ndarray, scores: np.ndarray, size: tuple[int, int]
    ) -> None:
        """Put in boxes, clipped to the image, or the reason why one is unusable.

        Args:
            places: indices of P of the N expressions.
            boxes: (P, 4) xyxy pixels.
            scores: (P,).
            size: width and height of the image.
        """
        for place, box, score in zip(places, np.asarray(boxes, np.float64), scores, strict=True):
            inside = np.clip(box, 0, [*size, *size])
            if not (np.isfinite(box).all() and np.isfinite(score)):
                self.reasons[place] = UNSURE
            elif (box[2:] <= box[:2]).any():
                self.reasons[place] = CROSSED
            elif (inside[2:] <= inside[:2]).any():
                self.reasons[place] = OUTSIDE
            else:
                self.boxes[place], self.scores[place] = inside, score
