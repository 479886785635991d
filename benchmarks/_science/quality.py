"""Measure how well scores find wrong labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from _science.world import KINDS

Record = dict[str, Any]


def quality(scores: np.ndarray, correct: np.ndarray) -> dict[str, float]:
    """Return AUROC and average precision of low scores for wrong labels; unscored count as 0."""
    low, wrong = -np.nan_to_num(scores.astype(np.float64)), ~correct
    return {
        "auroc": float(roc_auc_score(wrong, low)),
        "average_precision": float(average_precision_score(wrong, low)),
    }


def by_kind(scores: np.ndarray, correct: np.ndarray, error: np.ndarray) -> Record:
    """Return quality on all labels, and AUROC for each kind of error against the right labels."""
    kinds = {
        kind: quality(scores[correct | (error == kind)], correct[correct | (error == kind)])[
            "auroc"
        ]
        for kind in KINDS
    }
    return {**quality(scores, correct), "kinds": kinds, "scored": float(np.isfinite(scores).mean())}
