"""Two-component Beta mixtures that turn scores into the probability that a label is right."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipvg.errors import InputError, near_matches
from clipvg.labels import LabelTable
from clipvg.measures.common.scales import extra

_LEAST = 8  # scored labels below which no mixture is fitted to a group
_MOST = 20_000  # most scores that a fit uses
_EDGE = 0.01  # scores are clipped this far inside [0, 1], where densities are finite
_SAME = 1e-6  # range of scores below which all count as equal
_STEPS, _DONE = 200, 1e-7
# Quantiles from which the two components start. The likeliest fit wins, since a start inside the
# common component misses a rare one.
_STARTS = ((0.02, 0.5), (0.5, 0.98), (0.1, 0.9), (0.25, 0.75))


def group_column(labels: LabelTable, name: str | None) -> np.ndarray:
    """Return each label's group number, (N,) int64, by a column's values; one group when None."""
    if name is None:
        return np.zeros(len(labels), dtype=np.int64)
    if name == "source":
        column = pa.array(labels.sources(), pa.string())
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
    """Return the probability that a label belongs to the upper of two components of the scores.

    A mixture of two Beta distributions is fitted to the scores by expectation maximisation with
    weighted moments (Arazo et al., ICML 2019), and its posterior is made to never fall as the score
    rises. Groups of fewer than 8 scored labels, or whose scores are all equal, use a mixture fitted
    to all labels; if that cannot be fitted either, scores are returned unchanged.

    Args:
        scores: (N,) in [0, 1], NaN where not scored.
        group: (N,) group of each label, each with a mixture of its own; None for one.

    Returns:
        (N,) float64 in [0, 1], NaN where not scored.
    """
    scores = np.asarray(scores, dtype=np.float64)
    group = np.zeros(len(scores), dtype=np.int64) if group is None else group
    known = ~np.isnan(scores)
    found = np.full(len(scores), np.nan)
    whole: BetaMixture | None = None
    for number in np.unique(group[known]):
        here = known & (group == number)
        fitted = BetaMixture.fit(scores[here])
        if fitted is None:
            whole = whole or BetaMixture.fit(scores[known])
            fitted = whole
        found[here] = scores[here] if fitted is None else fitted.upper(scores[here])
    return found


@dataclass(frozen=True, eq=False)
class BetaMixture:
    """Mixture of two Beta distributions, the upper one last."""

    share: np.ndarray  # (2,) weight of each component; a, b: (2,) its parameters
    a: np.ndarray
    b: np.ndarray
    likelihood: float  # mean log-likelihood of the fitted scores

    @classmethod
    def fit(cls, scores: np.ndarray) -> BetaMixture | None:
        """Fit scores in [0, 1] without NaN; return None if they are too few or all equal."""
        if len(scores) < _LEAST or np.ptp(scores) < _SAME:
            return None
        values = np.sort(np.clip(scores, _EDGE, 1 - _EDGE))
        if len(values) > _MOST:  # evenly spaced order statistics have the same distribution
            values = values[np.linspace(0, len(values) - 1, _MOST).astype(np.int64)]
        fits = [cls._climb(values, *start) for start in np.quantile(values, _STARTS)]
        best = max(fits, key=lambda fitted: fitted.likelihood)
        order = np.argsort(best.a / (best.a + best.b))
        return cls(best.share[order], best.a[order], best.b[order], best.likelihood)

    @classmethod
    def _climb(cls, values: np.ndarray, low: float, high: float) -> BetaMixture:
        """Run expectation maximisation from components around two scores."""
        steep = 4 / max(high - low, _EDGE)
        upper = 1 / (1 + np.exp(-steep * (values - (low + high) / 2)))
        belongs = np.stack([1 - upper, upper])  # (2, N)
        before = -np.inf
        for _ in range(_STEPS):
            fitted = cls._from_moments(values, belongs)
            logs = fitted._logs(values)
            total = np.logaddexp(logs[0], logs[1])
            belongs = np.exp(logs - total)
            likelihood = float(total.mean())
            if abs(likelihood - before) < _DONE:
                break
            before = likelihood
        return replace(fitted, likelihood=likelihood)

    @classmethod
    def _from_moments(cls, values: np.ndarray, belongs: np.ndarray) -> BetaMixture:
        weight = np.maximum(belongs.sum(axis=1), 1e-9)
        mean = (belongs * values).sum(axis=1) / weight
        variance = (belongs * (values - mean[:, None]) ** 2).sum(axis=1) / weight
        limit = mean * (1 - mean)
        strength = limit / np.clip(variance, 1e-6, 0.999 * limit) - 1
        return cls(weight / weight.sum(), mean * strength, (1 - mean) * strength, -np.inf)

    def _logs(self, values: np.ndarray) -> np.ndarray:
        """Return the log of share times density of each component, (2, N)."""
        beta = extra("scipy.special", "mixture calibration").betaln(self.a, self.b)[:, None]
        a, b = self.a[:, None], self.b[:, None]
        density = (a - 1) * np.log(values) + (b - 1) * np.log1p(-values) - beta
        return np.log(self.share)[:, None] + density

    def upper(self, scores: np.ndarray) -> np.ndarray:
        """Return the posterior of the upper component, made to never fall as the score rises."""
        logs = self._logs(np.clip(scores, _EDGE, 1 - _EDGE))
        posterior = np.exp(logs[1] - np.logaddexp(logs[0], logs[1]))
        order = np.argsort(scores, kind="stable")
        posterior[order] = np.maximum.accumulate(posterior[order])
        return posterior
