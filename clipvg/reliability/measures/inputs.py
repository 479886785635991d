"""What fused measures are made of: scores in the context, or other measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from clipvg.errors import InputError, near_matches
from clipvg.labels import LabelTable

if TYPE_CHECKING:
    from clipvg.reliability.measurer import Context, Measurer

Of = Sequence["str | Measurer"] | str | None


def listed(of: Of) -> tuple[str | Measurer, ...] | None:
    """Return the inputs as a tuple; None for all scores of the context."""
    if of is None:
        return None
    made = (of,) if isinstance(of, str) or not isinstance(of, Sequence) else tuple(of)
    if not made:
        raise InputError("a fused measure was given no inputs; name at least one, or None for all.")
    return made


def needs(of: tuple[str | Measurer, ...] | None) -> frozenset[str]:
    """Return what the inputs require together."""
    if of is None:
        return frozenset({"scores"})
    parts = [frozenset({"scores"}) if isinstance(m, str) else m.requires for m in of]
    return frozenset().union(*parts)


def input_names(of: tuple[str | Measurer, ...] | None, context: Context) -> tuple[str, ...]:
    """Return the names of the inputs' columns."""
    if of is None:
        return context.scores.names if context.scores is not None else ()
    return tuple(m if isinstance(m, str) else m.name for m in of)


def input_scores(
    of: tuple[str | Measurer, ...] | None, labels: LabelTable, context: Context, fused: str
) -> np.ndarray:
    """Return the scores of k inputs, (k, N) float64, NaN where not scored.

    Inputs that are measures run now, those that look at pictures in one pass.

    Raises:
        InputError: an input is not among the scores.
    """
    from clipvg.reliability.measures.together import measure_together

    run = {m.name: m for m in of or () if not isinstance(m, str)}
    found = measure_together(run, labels, context) if run else {}
    rows = [
        found[name] if name in found else score_column(name, context, fused)
        for name in input_names(of, context)
    ]
    if not rows:
        raise InputError(f"measure {fused!r} has no scores to fuse; score with measurers first.")
    return np.stack(rows).astype(np.float64)


def score_column(name: str | None, context: Context, fused: str) -> np.ndarray:
    """Return one score column of the context, (N,) float64; the mean of all when None.

    Raises:
        InputError: no such scores.
    """
    scores = context.scores
    if scores is None:
        raise InputError(
            f"measure {fused!r} needs scores, which this call has not; score with measurers in "
            "the same call, or pass Context(scores=...)."
        )
    if name is None:
        return mean_of_scored(scores.scores.astype(np.float64))
    if name not in scores.names:
        raise InputError(
            f"measure {fused!r} fuses {name!r}, which is not among the scores; "
            f"{near_matches(name, scores.names)}"
        )
    return scores[name].astype(np.float64)


def mean_of_scored(rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the weighted mean over the inputs (k, N) that score a label, NaN where none does."""
    weights = np.ones(len(rows)) if weights is None else weights
    share = np.where(np.isnan(rows), 0, weights[:, None])
    total = share.sum(axis=0)
    summed = (np.nan_to_num(rows) * share).sum(axis=0)
    return np.divide(summed, total, out=np.full(rows.shape[1], np.nan), where=total > 0)


def weights_of(
    weights: Mapping[str, float] | Sequence[float] | None, names: Sequence[str], fused: str
) -> np.ndarray:
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
    """Return some rows of the labels with their part of the context; reasons are its own."""
    scores, history = context.scores, context.history
    if scores is not None:
        scores = scores.take(rows)
    if history is not None:
        history = history[:, rows]
    return labels.select(rows), replace(context, scores=scores, history=history, reasons={})
