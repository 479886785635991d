"""Sources whose labels make the model worse are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from clipvg.curriculum.outcome import Variant, score_of
from clipvg.curriculum.trainings import Trainings
from clipvg.runs.stage import Stage

SCORES = "with", "without"  # of a source that is left out, in the summary


@dataclass
class LeavingOut:
    """Takes sources back from what a variant selected, one by one, while the model gets better.

    In each step a model is trained without each of the sources that are left, and judged on the
    validation labels. The source without which the model is best goes, if it is better than with
    that source.
    """

    work: Trainings
    base: Variant
    rows: Mapping[str, np.ndarray]  # (N,) bool by source, its labels
    # by source that went, `SCORES` of the model then
    left_out: dict[str, dict[str, float]] = field(default_factory=dict)
    trainings: set[str] = field(default_factory=set)  # keys of what was trained

    def __post_init__(self) -> None:
        self.keep: np.ndarray = self.base.selected  # (N,) bool, labels that stay
        self.stage: Stage = self.base.stage  # trained on them

    def run(self) -> LeavingOut:
        """Take back what does not help."""
        while found := self._without_each():
            source, (keep, stage) = max(found.items(), key=lambda item: score_of(item[1][1]))
            scores = score_of(self.stage), score_of(stage)
            if scores[1] <= scores[0]:
                break
            self.left_out[source] = dict(zip(SCORES, scores, strict=True))
            self.keep, self.stage = keep, stage
        return self

    def _without_each(self) -> dict[str, tuple[np.ndarray, Stage]]:
        """Return labels and model without each source that is left; nothing for a last one."""
        config = self.work.config
        there = [source for source, rows in self.rows.items() if (self.keep & rows).any()]
        masks = {source: self.keep & ~self.rows[source] for source in there if len(there) > 1}
        least = config.least(len(self.keep))
        masks = {source: keep for source, keep in masks.items() if keep.sum() >= least}
        if not masks:
            return {}
        stages = self.work.train(
            [*masks.values()],
            how=config.candidates,
            init=self.base.stage,
            union=self.base.selected,
            names=[f"without {source}" for source in masks],
        )
        for source, stage in zip(masks, stages, strict=True):
            self.work.note("without", stage, source=source)
            self.trainings.add(stage.key)
        return {
            source: (keep, stage)
            for (source, keep), stage in zip(masks.items(), stages, strict=True)
        }
