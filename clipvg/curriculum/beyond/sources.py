"""Leave out sources whose labels make the model worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clipvg.curriculum.outcome import Variant, score_of
from clipvg.curriculum.trainings import Trainings
from clipvg.runs.stage import Stage


@dataclass
class Fewer:
    """The labels of a variant without some sources."""

    keep: np.ndarray  # (N,) bool, labels that remain
    stage: Stage  # trained on them
    # removed source -> the scores "with" and "without" its labels
    left_out: dict[str, dict[str, float]]
    trainings: set[str]  # keys of the trainings made


def leave_out(work: Trainings, base: Variant, rows: Mapping[str, np.ndarray]) -> Fewer:
    """Remove sources from the labels that a variant selected, one by one, while the model improves.

    In each step, a model is trained without each of the remaining sources and judged on the
    validation labels. The source whose absence gives the best model is removed if that model is
    better than the one with it. `rows` maps each source to its labels, (N,) bool.
    """
    found = Fewer(base.selected, base.stage, {}, set())
    while tried := _without_each(work, base, rows, found):
        source, (keep, stage) = max(tried.items(), key=lambda item: score_of(item[1][1]))
        before, after = score_of(found.stage), score_of(stage)
        if after <= before:
            break
        found.left_out[source] = {"with": before, "without": after}
        found.keep, found.stage = keep, stage
    return found


def _without_each(
    work: Trainings, base: Variant, rows: Mapping[str, np.ndarray], found: Fewer
) -> dict[str, tuple[np.ndarray, Stage]]:
    """Return labels and model without each remaining source, if enough labels are left."""
    least = work.config.least(len(found.keep))
    masks = {name: found.keep & ~own for name, own in rows.items() if (found.keep & own).any()}
    masks = {name: keep for name, keep in masks.items() if keep.sum() >= least}
    if not masks:
        return {}
    stages = work.train(
        [*masks.values()],
        how=work.config.candidates,
        init=base.stage,
        union=base.selected,
        names=[f"without {name}" for name in masks],
    )
    for name, stage in zip(masks, stages, strict=True):
        work.note("without", stage, source=name)
        found.trainings.add(stage.key)
    return dict(zip(masks, zip(masks.values(), stages, strict=True), strict=True))
