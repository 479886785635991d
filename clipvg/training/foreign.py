"""Expressions of other images: which fit an image by their words, and how many others fit it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipvg.labels.pairs import words


class Foreign:
    """What is said of each image of a table, by which expressions of other images are judged.

    Args:
        expressions: of N labels.
        image_of: (N,) number of each one's image.
    """

    def __init__(self, expressions: Sequence[str], image_of: np.ndarray) -> None:
        self._words = [frozenset(words(text)) for text in expressions]
        self._image_of = image_of
        self._rows: dict[int, list[int]] = {}
        for row, image in enumerate(image_of.tolist()):
            self._rows.setdefault(image, []).append(row)

    def fits(self, rows: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Return of each label whether another one says all of its words of an image, (B,) bool."""
        return np.array(
            [
                any(self._words[row] <= self._words[o] for o in self._rows[image] if o != row)
                for row, image in zip(rows.tolist(), images.tolist(), strict=True)
            ],
            bool,
        )

    def missed(self, rows: np.ndarray, found: np.ndarray) -> float:
        """Estimate the share that fit of those foreign expressions that were not found to.

        Each label's expression fits its own image, and `fits` finds a share d of them there. Of
        those with as many words it finds the same share on other images: if it found u, u / d fit.
        """
        lengths = np.array([len(said) for said in self._words])
        known = self.fits(np.arange(len(lengths)), self._image_of)
        missed = 0.0
        for length in np.unique(lengths[rows[found]]):
            share = float(known[lengths == length].mean())
            count = int(found[lengths[rows] == length].sum())
            missed += count * (1 / share - 1) if share else 0
        return min(missed / max(int((~found).sum()), 1), 0.5)
