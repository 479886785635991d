"""Several measures of the same labels: those that look at pictures share one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from clipvg.labels import LabelTable

if TYPE_CHECKING:
    from clipvg.reliability.measurer import Context, Measurer


def measure_together(
    measurers: Mapping[str, Measurer], labels: LabelTable, context: Context
) -> dict[str, np.ndarray]:
    """Run measures, those that look at pictures first and in one pass, the others in their order.

    What requires "scores" sees those of the context and of all that ran before it, so that fused
    measures may name measures of the same call.

    Args:
        measurers: column name -> measure.
        labels: N labels.
        context: what they may use; ``reasons`` is filled.

    Returns:
        Column name -> float32 (N,) in [0, 1], NaN where not scored, in the order given.

    Raises:
        InputError: as `clipvg.reliability.measure`.
    """
    from clipvg.reliability.measures.look import PictureMeasure, look_together
    from clipvg.reliability.score import checked, measure

    looking = {
        name: m
        for name, m in measurers.items()
        if isinstance(m, PictureMeasure)
        and type(m).measure is PictureMeasure.measure
        and m.requires <= {"images"}
    }
    found: dict[str, np.ndarray] = {}
    if looking:
        rows = look_together(list(looking.values()), labels, context)
        found = {
            name: checked(measurer, row, len(labels))
            for (name, measurer), row in zip(looking.items(), rows, strict=True)
        }
    for name, measurer in measurers.items():
        if name not in found:
            found[name] = measure(measurer, labels, _with_scores(context, labels, found))
    return {name: found[name] for name in measurers}


def _with_scores(context: Context, labels: LabelTable, found: Mapping[str, np.ndarray]) -> Context:
    """The context with the scores found so far beside its own."""
    from clipvg.reliability.matrix import ScoreMatrix

    if not found:
        return context
    own = ScoreMatrix(tuple(found), np.stack(list(found.values())), labels.encoded_sources())
    if context.scores is not None:
        others = [name for name in context.scores.names if name not in found]
        own = ScoreMatrix.concat([context.scores.select(others), own])
    return replace(context, scores=own)
