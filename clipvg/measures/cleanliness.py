"""Measures of label cleanliness from the labels alone: ambiguity, consistency, hygiene."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated

import numpy as np

from clipvg.boxes import area, iou
from clipvg.labels import LabelTable
from clipvg.labels.pairs import WordSets, group_numbers, pairs_within, plain
from clipvg.measures.common.measure import Measure
from clipvg.reliability.measurer import Context, Scores


class Ambiguity(Measure):
    """Share of the boxes with the same expression on an image that agree with this one.

    r_i = |{j : same image, same words, IoU(b_i, b_j) >= iou}| / |{j : same image, same words}|,
    i itself included: 1 when all labels with these words name one box (or there is only one label),
    0.5 when two boxes share them equally. Words are compared without case and punctuation.

    Args:
        iou: IoU from which two boxes count as one.
    """

    iou: Annotated[float, (0, 1)] = 0.5
    name: str = "ambiguity"

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        """Return the shares."""
        boxes = labels.boxes()
        _, image_of = labels.distinct_images()
        texts = [plain(expression) for expression in labels.expressions]
        group = group_numbers(list(zip(image_of.tolist(), texts, strict=True)))
        same = np.ones(len(labels))
        total = np.ones(len(labels))
        for i, j in pairs_within(group):
            agree = iou(boxes[i], boxes[j]) >= self.iou
            same += np.bincount(i, agree, len(labels))
            total += np.bincount(i, minlength=len(labels))
        return Scores((same / total).astype(np.float32))


class Consistency(Measure):
    """Agreement with the boxes of the image's other labels that use similar words.

    r_i = Σ_j s_ij IoU(b_i, b_j) / Σ_j s_ij over the other labels of the image, where s_ij is the
    share of common words (Jaccard) if it is at least `similar`, else 0; with ``across``, only
    labels from other sources count. A label without any such label is not scored.

    Args:
        similar: smallest share of common words that counts.
        across: compare only with labels from other sources.
    """

    similar: Annotated[float, (0, 1)] = 0.5
    across: bool = False
    name: str = "consistency"

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        """Return the weighted mean IoU, NaN where there is nothing to compare."""
        boxes, sets = labels.boxes(), WordSets(labels.expressions)
        source = group_numbers(labels.sources())
        weight = np.zeros(len(labels))
        total = np.zeros(len(labels))
        for i, j in pairs_within(labels.distinct_images()[1]):
            alike = sets.jaccard(i, j)
            alike *= alike >= self.similar
            if self.across:
                alike *= source[i] != source[j]
            weight += np.bincount(i, alike, len(labels))
            total += np.bincount(i, alike * iou(boxes[i], boxes[j]), len(labels))
        alone = weight == 0
        reasons = dict.fromkeys(
            np.flatnonzero(alone).tolist(), f"{self.name}: no other label with similar words"
        )
        scores = np.divide(total, weight, out=np.full(len(labels), np.nan), where=~alone)
        return Scores(np.clip(scores, 0, 1).astype(np.float32), reasons)


class Hygiene(Measure):
    """Share of simple sanity rules that a label satisfies; 0 for an unusable label.

    r = mean over five rules: the share of the box's area that lies inside the image; and, 1 or 0
    each: its share of the image is in [min_area, max_area]; its aspect ratio is at most
    `max_aspect`; the expression has at most `max_words` words; the same (image, words, box) does
    not occur earlier. Rules that need the image's size are skipped if columns width and height do
    not give it. An empty box, one wholly outside the image, or an expression without a letter
    gives 0.

    Args:
        min_area: smallest share of the image's area.
        max_area: largest share.
        max_aspect: largest ratio of the longer to the shorter side; ``inf`` allows any.
        max_words: largest number of words.
    """

    min_area: Annotated[float, (0, 1)] = 0.001
    max_area: Annotated[float, (0, 1)] = 0.95
    max_aspect: Annotated[float, (1, math.inf)] = 8.0
    max_words: Annotated[int, (1, None)] = 40
    name: str = "hygiene"

    def problems(self) -> Iterator[str]:
        """Yield a problem if no area is allowed."""
        if self.max_area < self.min_area:
            yield f"max_area is {self.max_area}, expected at least min_area, {self.min_area}"

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        """Return the share of satisfied rules."""
        boxes = labels.boxes().astype(np.float64)
        sizes = labels.sizes().astype(np.float64)
        texts = [plain(expression) for expression in labels.expressions]
        sides, whole = boxes[:, 2:] - boxes[:, :2], area(boxes)
        known = np.asarray((sizes > 0).all(axis=1))
        whole_area = np.where(known, sizes.prod(axis=1), np.nan)
        clipped = np.clip(boxes, 0, np.where(known[:, None], np.tile(sizes, 2), np.inf))
        share_inside = area(clipped) / np.where(whole > 0, whole, np.nan)
        share = area(clipped) / whole_area
        longer, shorter = sides.max(axis=1, initial=0), sides.min(axis=1, initial=np.inf)
        first = np.zeros(len(labels))
        first[self._first_rows(labels, texts)] = 1
        rules = np.stack(
            [
                np.where(known, share_inside, np.nan),
                np.where(known, (share >= self.min_area) & (share <= self.max_area), np.nan),
                longer <= self.max_aspect * shorter,
                np.array([text.count(" ") + 1 <= self.max_words for text in texts], dtype=float),
                first,
            ]
        )
        has_letter = np.array([any(c.isalpha() for c in text) for text in texts], dtype=bool)
        usable = (sides > 0).all(axis=1) & has_letter & ~(known & (share_inside == 0))
        if not len(labels):
            return Scores(np.zeros(0, dtype=np.float32))
        return Scores(np.where(usable, np.nanmean(rules, axis=0), 0).astype(np.float32))

    @staticmethod
    def _first_rows(labels: LabelTable, texts: list[str]) -> np.ndarray:
        """Return the row at which each distinct (image, words, box) occurs first."""
        keys = np.column_stack(
            [labels.distinct_images()[1], group_numbers(texts), labels.boxes().astype(np.float64)]
        )
        return np.unique(keys, axis=0, return_index=True)[1]
