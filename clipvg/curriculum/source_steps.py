"""Steps of MSA: choose the measurer and the threshold of one source, and add the labels kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from clipvg.curriculum.candidates import search_threshold
from clipvg.curriculum.continued import Previous
from clipvg.curriculum.summary import Choice, Step, Training
from clipvg.curriculum.threshold import or_least
from clipvg.curriculum.trainings import Trainings
from clipvg.reliability.histogram import kept
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.runs.stage import Stage
from clipvg.runtime.files import Json


@dataclass(frozen=True, eq=False)
class Selected:
    """The labels selected so far, D in the paper."""

    mask: np.ndarray  # (N,) bool, labels selected
    reliability: np.ndarray  # (N,) float32, by which labels were selected; NaN where undecided
    stage: Stage | None  # trained on them; None if there are none

    @classmethod
    def before(cls, work: Trainings, previous: Previous | None) -> Selected:
        """Return the labels selected before the first step: those of the run to continue."""
        mask, stage = np.zeros(len(work.split.labels), bool), None
        if previous is not None:
            mask[previous.rows] = True
            stage = previous.adopt(previous.summary.winner, work.run)
            work.judge(stage)
        undecided = np.full(len(work.labels), np.nan, np.float32)
        return cls(mask[~work.split.is_held], undecided, stage)


@dataclass(frozen=True, eq=False)
class SourceSteps:
    """Makes the decisions about one source at a time."""

    work: Trainings  # trainings of the run
    complexity: Mapping[str, float]  # of each source
    measurers: Mapping[str, Stage]  # stages of the measurers trained here, by name
    h0: float  # threshold at which measurers are compared
    scores: ScoreMatrix  # of the labels by the measurers to choose among
    variant: str | None = None  # variant of `Beyond` that is made; None for the plain method

    def choose_measurer(self, source: str, before: Selected) -> tuple[Choice, ...]:
        """Compare measurers of a source at h0, each by the labels it keeps joined with `before`."""
        work, count = self.work, int(before.mask.sum())
        subsets = {name: self._kept(source, name, self.h0) for name in self.scores.names}
        least = work.config.least(count + int(self._rows(source).sum()))
        usable = [name for name, keep in subsets.items() if count + keep.sum() >= least]
        noted: dict[str, Training] = {}
        if len(subsets) > 1 and usable:
            stages = work.train(
                [before.mask | subsets[name] for name in usable],
                how=work.config.candidates,
                init=before.stage or self.measurers.get(source),
                union=before.mask | self._rows(source),
                names=[f"{source} by {name} at r ≥ {self.h0:g}" for name in usable],
            )
            facts: Json = {"source": source, "threshold": self.h0, "variant": self.variant}
            for name, stage in zip(usable, stages, strict=True):
                noted[name] = work.note("choice", stage, measurer=name, **facts)
        return tuple(
            Choice(
                measurer=name,
                specific=self._is_specific(name, source),
                kept=int(keep.sum()),
                score=noted[name].score if name in noted else None,
                stage=noted[name].stage if name in noted else None,
            )
            for name, keep in subsets.items()
        )

    def search_threshold(
        self, source: str, choice: tuple[Choice, ...], before: Selected
    ) -> tuple[Step, Selected]:
        """Search the threshold of a source by the best of the measurers, and add the labels kept.

        Of equal measurers the source's own wins, then the first.
        """
        measurer = max(choice, key=lambda each: (or_least(each.score), each.specific)).measurer
        rows = self._rows(source)
        found = search_threshold(
            self.work,
            np.where(rows, self.scores[measurer], np.float32(np.nan)),
            given=before.mask,
            init=before.stage or self.measurers.get(source),
            union=before.mask | rows,
            source=source,
            measurer=measurer,
            variant=self.variant,
        )
        keep = self._kept(source, measurer, found.search.best)
        after = Selected(
            before.mask | keep,
            np.where(rows, self.scores[measurer], before.reliability),
            found.best,
        )
        specific, labels = self._is_specific(measurer, source), int(rows.sum())
        step = found.step(source, measurer, specific=specific, labels=labels, kept=keep.sum())
        return replace(
            step,
            complexity=self.complexity[source],
            h0=self.h0,
            choice=choice,
            total=int(before.mask.sum()) + step.kept,
        ), after

    def _rows(self, source: str) -> np.ndarray:
        return np.array(self.work.labels.sources(), dtype=object) == source

    def _kept(self, source: str, measurer: str, threshold: float) -> np.ndarray:
        chosen = kept(self.scores[measurer], threshold, strict=self.work.config.strict)
        return np.asarray(chosen & self._rows(source))

    def _is_specific(self, measurer: str, source: str) -> bool:
        return source in self.scores.trained_on[self.scores.names.index(measurer)]
