"""Soft weights and thresholds from reliability calibrated to the probability of correctness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from clipvg.curriculum.beyond.config import Beyond
from clipvg.curriculum.threshold import Candidates, SearchStrategy, ThresholdSearch, find_threshold
from clipvg.errors import InputError
from clipvg.measures.fusion.mixture import clean_probability


def soft_weights(reliability: np.ndarray, group: np.ndarray | None = None) -> np.ndarray:
    """Return P(correct | r), which `clean_probability` estimates without truth, as weights.

    They are (N,) float32 in [0, 1] in steps of 0.0001; 0 where not scored.

    Args:
        reliability: (N,) in [0, 1], NaN where not scored.
        group: (N,) integers that group the labels, by source for example; None for one group.
    """
    return np.round(np.nan_to_num(clean_probability(reliability, group)), 4).astype(np.float32)


def calibrated_threshold(
    reliability: np.ndarray, probability: float = 0.5, *, strict: bool = False
) -> float:
    """Return the threshold that keeps the labels whose P(correct | r) is at least ``probability``.

    It is in [0, 1]; 1 if no label reaches the probability.

    Args:
        reliability: (N,) in [0, 1] of one source, NaN where not scored.
        probability: in (0, 1).
        strict: keep labels with r > h instead of r >= h.
    """
    # A comparison with NaN is False.
    reached = reliability[clean_probability(reliability) >= probability]
    if not reached.size:
        return 1.0
    least = float(reached.min())
    return max(0.0, float(np.nextafter(least, 0))) if strict else least


def search_strategy(beyond: Beyond, strategy: SearchStrategy) -> SearchStrategy:
    """Return a strategy that takes the calibrated threshold, if requested, else the given one."""
    if not beyond.skip_search or beyond.calibrated is None:
        return strategy
    probability = beyond.calibrated

    def take_calibrated(
        candidates: Candidates,
        /,
        start: float,
        step: float,
        *,
        low: float,
        high: float,
        count: Callable[[float], int],
        min_kept: int,
    ) -> ThresholdSearch:
        h = calibrated_threshold(candidates.reliability, probability, strict=candidates.strict)
        if count(h) < min_kept:
            raise InputError(
                f"the calibrated threshold {h:g} keeps {count(h)} label(s), fewer than {min_kept}; "
                "lower the probability (calibrated), or search a threshold."
            )
        found = find_threshold(candidates, h, step, low=h, high=h, count=count, min_kept=min_kept)
        return replace(found, reason="given, not searched")

    return take_calibrated
