"""Cleanliness of labels, judged from the labels alone: ambiguity, consistency, hygiene, noise."""

from __future__ import annotations

import numpy as np

from clipvg.boxes import area, iou
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.measurer import Context
from clipvg.reliability.measures.mixture import clean_probability, group_column
from clipvg.reliability.measures.pairs import WordSets, group_numbers, pairs_within, plain
from clipvg.reliability.measures.scales import inside, note


class Ambiguity:
    """Share of an expression's boxes on a picture that are this one.

    r_i = |{j : same picture, same words, IoU(b_i, b_j) >= iou}| / |{j : same picture, same words}|,
    i itself counted: 1 when all labels with these words name one box (or there is one), 0.5 when
    two boxes share them. Words are compared without case and punctuation.

    Cost: NumPy over the pairs, no model. Range (0, 1]. Requires nothing.

    Args:
        iou: overlap from which two boxes are one.
        name: name of the score column.
    """

    requires: frozenset[str] = frozenset()

    def __init__(self, *, iou: float = 0.5, name: str = "ambiguity") -> None:
        inside("iou", iou)
        self.iou, self.name = iou, name

    def measure(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return the shares, float32 (N,)."""
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
        return (same / total).astype(np.float32)


class Consistency:
    """Agreement with what other labels of the picture say in similar words.

    r_i = Σ_j s_ij IoU(b_i, b_j) / Σ_j s_ij over the other labels of the picture, s_ij the share of
    words in common (Jaccard) where at least `similar`, else 0; with ``across`` only labels of other
    sources count. A label with no such other is not scored.

    Cost: NumPy over the pairs of a picture's labels, no model. Range [0, 1]. Requires nothing.

    Args:
        similar: least share of common words.
        across: compare only with labels of another source.
        name: name of the score column.
    """

    requires: frozenset[str] = frozenset()

    def __init__(
        self, *, similar: float = 0.5, across: bool = False, name: str = "consistency"
    ) -> None:
        inside("similar", similar)
        self.similar, self.across, self.name = similar, across, name

    def measure(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return the weighted mean IoU, float32 (N,), NaN where there is nothing to compare."""
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
        note(context, np.flatnonzero(alone), f"{self.name}: no other label with similar words")
        scores = np.divide(total, weight, out=np.full(len(labels), np.nan), where=~alone)
        return np.clip(scores, 0, 1).astype(np.float32)


class Hygiene:
    """Share of simple rules that a label keeps; 0 for one that cannot be a label.

    r = mean over five rules: the share of the box's area that lies inside the picture; its share of
    the picture is in [min_area, max_area]; its sides' ratio is at most `max_aspect`; the expression
    has at most `max_words` words; the same (picture, words, box) does not occur before (1 or 0
    each). Rules that need the picture's size are left out where columns width and height do not
    tell it. An empty box, one wholly outside the picture, or an expression without a letter gives
    0.

    Cost: NumPy, no model and no pictures. Range [0, 1]. Requires nothing.

    Args:
        min_area: least share of the picture's area.
        max_area: largest share.
        max_aspect: largest ratio of the longer to the shorter side.
        max_words: most words.
        name: name of the score column.
    """

    requires: frozenset[str] = frozenset()

    def __init__(
        self,
        *,
        min_area: float = 0.001,
        max_area: float = 0.95,
        max_aspect: float = 8.0,
        max_words: int = 40,
        name: str = "hygiene",
    ) -> None:
        inside("min_area", min_area)
        inside("max_area", max_area, min_area)
        if max_aspect < 1 or max_words < 1:
            raise InputError(
                f"max_aspect is {max_aspect} and max_words {max_words}; expected at least 1."
            )
        self.min_area, self.max_area = min_area, max_area
        self.max_aspect, self.max_words, self.name = max_aspect, max_words, name

    def measure(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return the share of the rules kept, float32 (N,)."""
        boxes = labels.boxes().astype(np.float64)
        sizes = labels.sizes().astype(np.float64)
        texts = [plain(expression) for expression in labels.expressions]
        sides, whole = boxes[:, 2:] - boxes[:, :2], area(boxes)
        known = np.asarray((sizes > 0).all(axis=1))
        picture = np.where(known, sizes.prod(axis=1), np.nan)
        clipped = np.clip(boxes, 0, np.where(known[:, None], np.tile(sizes, 2), np.inf))
        share_inside = area(clipped) / np.where(whole > 0, whole, np.nan)
        share = area(clipped) / picture
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
            return np.zeros(0, dtype=np.float32)
        return np.where(usable, np.nanmean(rules, axis=0), 0).astype(np.float32)

    @staticmethod
    def _first_rows(labels: LabelTable, texts: list[str]) -> np.ndarray:
        """Rows at which each distinct (picture, words, box) occurs first."""
        keys = np.column_stack(
            [labels.distinct_images()[1], group_numbers(texts), labels.boxes().astype(np.float64)]
        )
        return np.unique(keys, axis=0, return_index=True)[1]


class NoiseLevel:
    """Estimated share of right labels among those of the label's group.

    A mixture of two Beta distributions is fitted to the scores of each group (source, or any
    other column); r = mean posterior of the upper one, the group's share of clean labels, the same
    for all its labels. Noise rates by group for weighting sources, not for picking labels.

    Cost: a one-dimensional mixture a group. Range [0, 1]. Requires scores (or another measure's,
    ``of``), SciPy.

    Args:
        of: column of the scores that is split; None takes the mean of all.
        by: column whose values are the groups.
        name: name of the score column.
    """

    requires: frozenset[str] = frozenset({"scores"})

    def __init__(
        self, *, of: str | None = None, by: str = "source", name: str = "noise_level"
    ) -> None:
        self.of, self.by, self.name = of, by, name

    def measure(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return the clean share of each label's group, float32 (N,)."""
        from clipvg.reliability.measures.inputs import score_column

        scores = score_column(self.of, context, self.name)
        group = group_column(labels, self.by)
        posterior = clean_probability(scores, group)
        known = ~np.isnan(posterior)
        count = np.bincount(group[known], minlength=group.max(initial=0) + 1)
        total = np.bincount(group[known], posterior[known], len(count))
        share = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
        return np.where(known, share[group], np.nan).astype(np.float32)
