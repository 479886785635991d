"""How good scores are at finding wrong labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from _science.world import KINDS

Record = dict[str, Any]


def quality(scores: np.ndarray, correct: np.ndarray) -> dict[str, float]:
    """AUROC and average precision of low scores at finding wrong labels; unscored count as 0."""
    low, wrong = -np.nan_to_num(scores.astype(np.float64)), ~correct
    return {
        "auroc": float(roc_auc_score(wrong, low)),
        "average_precision": float(average_precision_score(wrong, low)),
    }


def by_kind(scores: np.ndarray, correct: np.ndarray, error: np.ndarray) -> Record:
    """Quality at finding all wrong labels, and AUROC at those of each kind among the right ones."""
    kinds = {
        kind: quality(scores[correct | (error == kind)], correct[correct | (error == kind)])[
            "auroc"
        ]
        for kind in KINDS
    }
    return {**quality(scores, correct), "kinds": kinds, "scored": float(np.isfinite(scores).mean())}
