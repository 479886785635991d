"""How well scores tell two kinds of rows apart."""

from __future__ import annotations

import numpy as np


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the probability that a positive scores higher than a negative, ties counting half."""
    _, rank, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2  # mean rank of equal scores, from 1
    num_positive = int(positive.sum())
    wins = middle[rank][positive].sum() - num_positive * (num_positive + 1) / 2
    return float(wins / (num_positive * (len(scores) - num_positive)))
