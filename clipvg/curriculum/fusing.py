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
    progress: bool = False,
) -> ScoreMatrix:
    """Measure labels by methods of the registry, which may fuse the scores that are there.

    Args:
        scores: of N labels by n measurers.
        labels: the labels.
        measures: ``[COLUMN=]METHOD[,option=value]``, as `build_measures` takes them.
        models: of the measurers, by name, for measures that ask a model.
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
    context = Context(scores=scores, progress=progress)
    rows = measure_together(built, labels, context)
    return replace(
        scores,
        names=tuple(rows),
        scores=np.stack(list(rows.values())),
        trained_on=(),
        reasons=context.reasons,
    )
