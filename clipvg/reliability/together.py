"""Several measures of the same labels: those that look at images share one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from clipvg.labels import LabelTable
from clipvg.reliability.image_measure import ImageMeasure, measure_images
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import Context, Measurer, Scores, checked, measure


def measure_together(
    measurers: Mapping[str, Measurer], labels: LabelTable, context: Context
) -> dict[str, Scores]:
    """Run measures, those that look at images first and in one pass, the others in their order.

    What requires "scores" sees those of the context and of all that ran before it, so that fused
    measures may name measures of the same call. What each says comes in the order given.
    """
    looking = {
        name: m
        for name, m in measurers.items()
        if isinstance(m, ImageMeasure) and m.shares_pass and m.requires <= {"images"}
    }
    found: dict[str, Scores] = {}
    if looking:
        scores = measure_images(list(looking.values()), labels, context)
        found = {
            name: checked(measurer, one, len(labels))
            for (name, measurer), one in zip(looking.items(), scores, strict=True)
        }
    for name, measurer in measurers.items():
        if name not in found:
            found[name] = measure(measurer, labels, _with_scores(context, labels, found))
    return {name: found[name] for name in measurers}


def _with_scores(context: Context, labels: LabelTable, found: Mapping[str, Scores]) -> Context:
    """The context with the scores found so far beside its own."""
    if not found:
        return context
    scores = ScoreMatrix.of(found, labels.encoded_sources())
    if context.scores is not None:
        others = [name for name in context.scores.names if name not in found]
        scores = ScoreMatrix.concat([context.scores.select(others), scores])
    return replace(context, scores=scores)
