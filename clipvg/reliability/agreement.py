"""How far measurers agree about labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from clipvg.reliability.histogram import kept


@dataclass(frozen=True, eq=False)
class Comparison:
    """Agreement of n measurers on N labels; higher is more agreement everywhere.

    Of a pair of measurers only labels count that both have scored. The matrices are symmetric;
    NaN stands where nothing can be said.

    Attributes:
        names: the measurers.
        threshold: h of ``same_side``.
        labels: (N,) float32 in [0, 1], mean of 1 - |r_i - r_j| over the pairs that scored the
            label: 1 where all say the same. NaN where fewer than two scored it.
        closeness: (n, n) float64 in [0, 1], mean of 1 - |r_i - r_j| over labels.
        spearman: (n, n) float64 in [-1, 1], correlation of ranks, ties at their mean rank: do the
            measurers order the labels alike? NaN where one gives all labels the same score.
        same_side: (n, n) float64 in [0, 1], share of labels that h keeps for both or for neither.
        count: (n, n) int64, labels that both have scored.
    """

    names: tuple[str, ...]
    threshold: float
    labels: np.ndarray
    closeness: np.ndarray
    spearman: np.ndarray
    same_side: np.ndarray
    count: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Return the matrices as JSON values, None where nothing can be said."""
        matrices = {"closeness": self.closeness, "spearman": self.spearman,
                    "same_side": self.same_side}  # fmt: skip
        return {
            "measurers": list(self.names),
            "threshold": self.threshold,
            "labels": self.count.tolist(),
            **{name: _plain(matrix) for name, matrix in matrices.items()},
        }


def compare(
    names: tuple[str, ...], scores: np.ndarray, threshold: float = 0.5, *, strict: bool = False
) -> Comparison:
    """Compare measurers pair by pair.

    Args:
        names: n measurers.
        scores: (n, N) float32 in [0, 1], NaN where not scored.
        threshold: h; a label is kept when r >= h.
        strict: when r > h.
    """
    n, size = scores.shape
    closeness, spearman, same_side = (np.full((n, n), np.nan) for _ in range(3))
    count = np.zeros((n, n), np.int64)
    total, pairs = np.zeros(size, np.float32), np.zeros(size, np.int32)
    scored = ~np.isnan(scores)
    ranks: dict[int, np.ndarray] = {}
    for i in range(n):
        for j in range(i, n):
            both = scored[i] & scored[j]
            at = i, j
            count[at] = np.count_nonzero(both)
            if not count[at]:
                continue
            a, b = (scores[i], scores[j]) if both.all() else (scores[i][both], scores[j][both])
            close = 1 - np.abs(a - b)
            closeness[at] = close.mean(dtype=np.float64)
            sides = [kept(r, threshold, strict=strict) for r in (a, b)]
            same_side[at] = np.mean(sides[0] == sides[1])
            get = partial(_ranks, scored=scored, both=both, known=ranks)
            spearman[at] = np.einsum("i,i->", get(i, a), get(j, b), dtype=np.float64)
            if i != j:
                total[both] += close
                pairs += both
    for matrix in (closeness, spearman, same_side, count):
        matrix.T[np.triu_indices(n, 1)] = matrix[np.triu_indices(n, 1)]
    labels = np.divide(total, pairs, out=np.full(size, np.nan, np.float32), where=pairs > 0)
    return Comparison(names, threshold, labels, closeness, spearman, same_side, count)


def _ranks(
    row: int, values: np.ndarray, scored: np.ndarray, both: np.ndarray, known: dict[int, np.ndarray]
) -> np.ndarray:
    """Return standardised ranks of a measurer's values, computed once where all it scored count."""
    if len(values) < np.count_nonzero(scored[row]):
        return _standard_ranks(values)
    if row not in known:
        known[row] = _standard_ranks(values)
    return known[row]


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks (R,) float32 of mean 0 and length 1, ties at their mean; NaN when all tie."""
    order = np.argsort(values)
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.append(starts[1:], len(values))
    ranks = np.empty(len(values), np.float64)
    ranks[order] = np.repeat((starts + ends - 1) / 2, ends - starts)
    ranks -= (len(values) - 1) / 2
    length = np.linalg.norm(ranks)
    if not length:
        return np.full(len(values), np.nan, np.float32)
    return (ranks / length).astype(np.float32)


def _plain(matrix: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(value) else float(value) for value in row] for row in matrix]
