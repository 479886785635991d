"""Distribution of scores: bins, exact counts above a threshold, quantiles, separation.

Scores are float32 in [0, 1]; NaN means "not scored", is in no bin and is kept by no threshold.
A threshold is a double and the comparison is made in double precision, as the published filter
does it: float32(0.8) > 0.8 is true, float32(0.7) >= 0.7 is false.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clipvg.errors import InputError
from clipvg.runtime.files import Json

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def histogram(scores: npt.ArrayLike, bins: int = 1000) -> np.ndarray:
    """Count the scores in each of ``bins`` equal bins over [0, 1], (bins,) int64.

    Args:
        scores: (N,) float32 in [0, 1]; NaN is in no bin.
        bins: number of bins; the bin of r is ``min(floor(r * bins), bins - 1)`` in float32.

    Raises:
        InputError: ``bins`` is below 1, or a score is outside [0, 1].
    """
    if bins < 1:
        raise InputError(f"bins is {bins}; expected at least 1. Pass e.g. bins=1000.")
    scored = _scored(scores)
    index = np.minimum((scored * np.float32(bins)).astype(np.int64), bins - 1)
    return np.bincount(index, minlength=bins).astype(np.int64)


def kept(scores: npt.ArrayLike, threshold: float, *, strict: bool = False) -> np.ndarray:
    """Return which labels a threshold keeps, (N,) bool.

    Args:
        scores: (N,) float32; NaN (not scored) is never kept.
        threshold: h; a label is kept when r >= h, the paper's closed interval [h, 1].
        strict: keep r > h instead, as the published filter does.
    """
    wide = np.asarray(scores, dtype=np.float32).astype(np.float64)
    return wide > threshold if strict else wide >= threshold


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the probability that a positive scores higher than a negative, ties counting half."""
    _, rank, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2  # mean rank of equal scores, from 1
    num_positive = int(positive.sum())
    wins = middle[rank][positive].sum() - num_positive * (num_positive + 1) / 2
    return float(wins / (num_positive * (len(scores) - num_positive)))


class Distribution:
    """Sorted scores of one measurer on one group of labels.

    Args:
        scores: (N,) float32 in [0, 1], NaN where not scored, in any order.

    Raises:
        InputError: a score is outside [0, 1].
    """

    def __init__(self, scores: npt.ArrayLike) -> None:
        scored = _scored(scores)
        self._sorted = np.sort(scored)
        self.num_unscored = int(np.size(scores) - scored.size)

    def __len__(self) -> int:
        """Return the number of scored labels."""
        return int(self._sorted.size)

    def count_above(self, threshold: float, *, strict: bool = False) -> int:
        """Count the labels that ``kept`` keeps, exactly, in O(log N).

        Args:
            threshold: h, compared in double precision.
            strict: count r > h instead of r >= h.
        """
        # A float32 bound that splits float32 scores exactly as the double does: searching with
        # the double itself would copy the whole array to float64 on every call.
        bound = np.float32(threshold)
        if strict:
            if float(bound) > threshold:
                bound = np.nextafter(bound, np.float32(-np.inf))
            return len(self) - int(np.searchsorted(self._sorted, bound, side="right"))
        if float(bound) < threshold:
            bound = np.nextafter(bound, np.float32(np.inf))
        return len(self) - int(np.searchsorted(self._sorted, bound, side="left"))

    def quantiles(self, q: Sequence[float] = QUANTILES) -> np.ndarray:
        """Return quantiles of the scored labels, (len(q),) float64; NaN where none is scored."""
        if not len(self):
            return np.full(len(q), np.nan)
        return np.quantile(self._sorted.astype(np.float64), q)

    def histogram(self, bins: int = 1000) -> np.ndarray:
        """Count the scores in ``bins`` equal bins over [0, 1]; see `histogram`."""
        return histogram(self._sorted, bins)

    def mean(self) -> float:
        """Return the mean of the scored labels, NaN where none is scored."""
        return float(self._sorted.mean(dtype=np.float64)) if len(self) else float("nan")

    def to_dict(self, bins: int = 100) -> Json:
        """Return the distribution as JSON values: count, unscored, mean, quantiles, histogram."""
        values = [float(v) if len(self) else None for v in self.quantiles()]
        return {
            "count": len(self),
            "unscored": self.num_unscored,
            "mean": self.mean() if len(self) else None,
            "quantiles": dict(zip(map(str, QUANTILES), values, strict=True)),
            "histogram": self.histogram(bins).tolist(),
        }


def _scored(scores: npt.ArrayLike) -> np.ndarray:
    values = np.asarray(scores, dtype=np.float32).reshape(-1)
    scored = values[~np.isnan(values)]
    if scored.size and not (scored.min() >= 0 and scored.max() <= 1):
        rows = np.flatnonzero((values < 0) | (values > 1))
        raise InputError(
            f"{rows.size} score(s) are outside [0, 1], first at row {rows[0]}: "
            f"{values[rows[0]]}; expected reliability. Rescale the measure or use NaN for "
            "labels that it does not score."
        )
    return scored
