"""Inputs of fused measures: score columns of the context, or other measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property

import numpy as np

from clipvg.errors import InputError, near_matches
from clipvg.labels import LabelTable
from clipvg.measures.common.measure import Measure
from clipvg.reliability.image_measure import measure_together
from clipvg.reliability.measurer import Context, Measurer, Scores, join_reasons

Input = str | Measurer
Inputs = Sequence[Input] | Input | None
Weights = Mapping[str, float] | Sequence[float] | np.ndarray | None


class FusedMeasure(Measure):
    """Base class of measures that fuse other scores.

    Args:
        of: names of score columns, measures, or both; None for all scores of the context.
    """

    of: Inputs = field(default=None, kw_only=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inputs == ():
            raise InputError(
                "a fused measure was given no inputs; name at least one, or None for all."
            )

    @cached_property
    def inputs(self) -> tuple[Input, ...] | None:
        """The inputs as a tuple; None for all scores of the context."""
        if self.of is None:
            return None
        if isinstance(self.of, str) or not isinstance(self.of, Sequence):
            return (self.of,)
        return tuple(self.of)

    @property
    def requires(self) -> frozenset[str]:
        """What all inputs together require."""
        if self.inputs is None:
            return frozenset({"scores"})
        parts = [frozenset({"scores"}) if isinstance(m, str) else m.requires for m in self.inputs]
        return frozenset[str]().union(*parts)

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        """Score every label by fusing its scores."""
        rows, reasons = self.input_scores(labels, context)
        values = self.fuse(rows, self.input_names(context), labels)
        return Scores(np.clip(values, 0, 1).astype(np.float32), reasons)

    def fuse(self, rows: np.ndarray, names: Sequence[str], labels: LabelTable) -> np.ndarray:
        """Return the fused scores (N,) of the k inputs (k, N), NaN where no input has a score."""
        raise NotImplementedError

    def input_names(self, context: Context) -> tuple[str, ...]:
        """Return the names of the inputs' columns."""
        if self.inputs is None:
            return context.scores.names if context.scores is not None else ()
        return tuple(m if isinstance(m, str) else m.name for m in self.inputs)

    def input_scores(
        self, labels: LabelTable, context: Context
    ) -> tuple[np.ndarray, dict[int, str]]:
        """Return the scores of k inputs, running those that are measures, see `measure_together`.

        Returns:
            (k, N) float64, NaN where not scored; row -> why a measure among them did not score it.
        """
        measures = {m.name: m for m in self.inputs or () if not isinstance(m, str)}
        found = measure_together(measures, labels, context) if measures else {}
        rows = [
            found[name].values if name in found else self._column(name, context)
            for name in self.input_names(context)
        ]
        if not rows:
            raise InputError(
                f"measure {self.name!r} has no scores to fuse; score with measurers first."
            )
        reasons = join_reasons(scores.reasons for scores in found.values())
        return np.stack(rows).astype(np.float64), reasons

    def _column(self, name: str, context: Context) -> np.ndarray:
        scores = context.scores
        if scores is None:
            raise InputError(
                f"measure {self.name!r} needs scores, which this call does not have; score with "
                "measurers in the same call, or pass Context(scores=...)."
            )
        if name not in scores.names:
            raise InputError(
                f"measure {self.name!r} fuses {name!r}, which is not among the scores; "
                f"{near_matches(name, scores.names)}"
            )
        return scores[name]


def mean_of_scored(rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the weighted mean over the inputs (k, N) that score a label, NaN where none does."""
    weights = np.ones(len(rows)) if weights is None else weights
    share = np.where(np.isnan(rows), 0, weights[:, None])
    total = share.sum(axis=0)
    summed = (np.nan_to_num(rows) * share).sum(axis=0)
    return np.divide(summed, total, out=np.full(rows.shape[1], np.nan), where=total > 0)


def weights_of(weights: Weights, names: Sequence[str], fused: str) -> np.ndarray:
    """Return the weights of the inputs in their order, (k,) float64; all 1 when None."""
    if weights is None:
        return np.ones(len(names))
    if isinstance(weights, Mapping):
        if set(weights) != set(names):
            raise InputError(
                f"measure {fused!r} fuses {list(names)} but has weights for {list(weights)}; give "
                "each input one weight."
            )
        weights = [weights[name] for name in names]
    values = np.asarray(weights, dtype=np.float64).reshape(-1)
    if len(values) != len(names) or not (values >= 0).all() or not 0 < values.sum() < np.inf:
        raise InputError(
            f"measure {fused!r} has weights {values.tolist()} for {list(names)}; expected one "
            "number >= 0 each, not all 0."
        )
    return values


def part_of(labels: LabelTable, context: Context, rows: np.ndarray) -> tuple[LabelTable, Context]:
    """Return the given rows of the labels, and of the context's scores and history."""
    scores, history = context.scores, context.history
    if scores is not None:
        scores = scores.take(rows)
    if history is not None:
        history = history[:, rows]
    return labels.select(rows), replace(context, scores=scores, history=history)
