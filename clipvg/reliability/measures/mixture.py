"""Two-component mixtures: scores become the probability that a label is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipvg.errors import InputError, near_matches
from clipvg.labels import LabelTable
from clipvg.reliability.measures.scales import extra

_LEAST = 8  # scored labels below which no mixture is fitted to a group
_EDGE = 1e-3  # scores this close to 0 or 1 count as this far inside, so that logits are finite
# Quantiles that the components start from; the likeliest fit wins, as a rare component is missed
# from a start inside the common one.
_STARTS = ((0.02, 0.5), (0.5, 0.98), (0.1, 0.9), (0.25, 0.75))
_SAME = 1e-6  # spread of logits below which all scores are equal


def group_column(labels: LabelTable, name: str | None) -> np.ndarray:
    """Number of each label's group, (N,) int64: values of a column; one group when None."""
    if name is None:
        return np.zeros(len(labels), dtype=np.int64)
    if name == "source":
        column: Any = pa.array(labels.sources(), pa.string())
    elif name in labels.table.column_names:
        column = pc.cast(labels.table.column(name), pa.string(), safe=False)
    else:
        raise InputError(
            f"no column {name!r} to group labels by; "
            f"{near_matches(name, labels.table.column_names)}"
        )
    values = pc.fill_null(column, "").to_pylist()
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(v, len(numbers)) for v in values], dtype=np.int64)


def clean_probability(scores: np.ndarray, group: np.ndarray | None = None) -> np.ndarray:
    """Probability that a label belongs to the upper of two components of the scores.

    A mixture of two normal distributions of one variance is fitted to logit(score), so that the
    posterior rises with the score. Groups of fewer than 8 scored labels, or whose scores are all
    equal, are calibrated with all labels; where these too give nothing, scores are returned as
    they are.

    Args:
        scores: (N,) in [0, 1], NaN where not scored.
        group: (N,) group of each label, each with a mixture of its own; None for one.

    Returns:
        (N,) float64 in [0, 1], NaN where not scored.
    """
    scores = np.asarray(scores, dtype=np.float64)
    group = np.zeros(len(scores), dtype=np.int64) if group is None else group
    known = ~np.isnan(scores)
    logits = np.full(len(scores), np.nan)
    clipped = np.clip(scores[known], _EDGE, 1 - _EDGE)
    logits[known] = np.log(clipped / (1 - clipped))
    found = np.full(len(scores), np.nan)
    whole = None
    for number in np.unique(group[known]):
        here = known & (group == number)
        fitted = _fit(logits[here])
        if fitted is None:
            whole = _fit(logits[known]) if whole is None else whole
            fitted = whole
        found[here] = scores[here] if fitted is None else _upper(fitted, logits[here])
    return found


def _fit(logits: np.ndarray) -> Any:
    if len(logits) < _LEAST or np.ptp(logits) < _SAME:
        return None
    sklearn = extra("sklearn.mixture", "mixture calibration")
    best = None
    for low, high in np.quantile(logits, _STARTS):
        if high - low < _SAME:
            low, high = logits.min(), logits.max()
        mixture = sklearn.GaussianMixture(
            2, covariance_type="tied", means_init=[[low], [high]], random_state=0
        ).fit(logits[:, None])
        if best is None or mixture.lower_bound_ > best.lower_bound_:
            best = mixture
    return best


def _upper(mixture: Any, logits: np.ndarray) -> np.ndarray:
    return mixture.predict_proba(logits[:, None])[:, int(np.argmax(mixture.means_[:, 0]))]
