"""Further measures beside the measurers, most often a fusion of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from clipvg.labels import LabelTable
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import Context
from clipvg.reliability.measures.build import build_measures
from clipvg.reliability.measures.together import measure_together
from clipvg.reliability.names import check_names


def fuse(
    scores: ScoreMatrix,
    labels: LabelTable,
    measures: Sequence[str],
    models: Mapping[str, Any] | None = None,
    *,
    known: ScoreMatrix | None = None,
    progress: bool = False,
) -> ScoreMatrix:
    """Measure labels by methods of the registry, which may fuse the scores that are there.

    Args:
        scores: of N labels by n measurers.
        labels: the labels.
        measures: ``[COLUMN=]METHOD[,option=value]``, as `build_measures` takes them.
        models: of the measurers, by name, for measures that ask a model.
        known: scores by some of ``measures``, which are not made again.
        progress: show a bar where a measure looks at pictures.

    Returns:
        The scores by ``measures`` alone; cross-source everywhere.

    Raises:
        InputError: an unknown measure or option, a name that is taken, or a measure that requires
            what is not there.

    Example:
        >>> fuse(scores, labels, ["weighted_mean,geometric=true"]).names
        ('weighted_mean',)
    """
    built = build_measures(measures, models)
    check_names([*scores.names, *built])
    found, reasons = {}, {}
    if known is not None:
        found, reasons = {name: known[name] for name in known.names}, dict(known.reasons)
        scores = ScoreMatrix.concat([scores, known])
    context = Context(scores=scores, progress=progress, reasons=reasons)
    missing = {name: measurer for name, measurer in built.items() if name not in found}
    found |= measure_together(missing, labels, context)
    rows = np.stack([found[name] for name in built])
    return replace(scores, names=tuple(built), scores=rows, trained_on=(), reasons=reasons)


def lasting(measures: Sequence[str], models: Mapping[str, Any]) -> dict[str, str]:
    """Return the measures whose scores stay when models on the same frozen towers learn more.

    Args:
        measures: as of `fuse`.
        models: as of `fuse`.

    Returns:
        Text of the measure -> key of the towers that decide its scores.
    """
    built = build_measures(measures, models).values()
    keys = {
        text: getattr(measurer, "towers_key", None)
        for text, measurer in zip(measures, built, strict=True)
    }
    return {text: key for text, key in keys.items() if key is not None}
