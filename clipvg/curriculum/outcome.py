"""Results of SSA and MSA: the plain result, and variants of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipvg.curriculum.beyond.correction import Agreed
from clipvg.curriculum.beyond.facts import VariantDetails, VariantFacts
from clipvg.curriculum.measurers import Measurers
from clipvg.curriculum.summary import Continued, Step, Training, count_steps
from clipvg.curriculum.threshold import or_least
from clipvg.curriculum.trainings import Trainings
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.runs.stage import Stage

PLAIN = "plain"


@dataclass(frozen=True, eq=False, kw_only=True)
class Variant:
    """One result of a run: a training, its labels, and all trainings that it depends on."""

    name: str  # "plain" for the published method, else after the option of `Beyond` that made it
    stage: Stage  # its training, finished and judged
    weights: np.ndarray  # (N,) float32 in [0, 1] of the training labels; 0 is left out
    reliability: np.ndarray  # (N,) float32, by which labels were selected; NaN where undecided
    steps: tuple[Step, ...]  # decisions that it comes from, one per source; one in SSA
    measured: frozenset[str]  # keys of the trainings that ``reliability`` depends on
    needs: frozenset[str]  # keys of all trainings it depends on, including its own
    # for the summary; thresholds and measurers of the steps when None
    details: VariantDetails | None = None
    agreed: Agreed | None = None  # labels that got another box

    @property
    def score(self) -> float:
        """Performance on the validation labels; -inf if it is not a number."""
        return score_of(self.stage)

    @property
    def selected(self) -> np.ndarray:
        """(N,) bool, training labels that it was trained on."""
        return np.asarray(self.weights > 0)

    def facts(self, plain: Variant, noted: Mapping[str, Training]) -> VariantFacts:
        """Return the variant's facts for the summary; `noted` has the trainings by key."""
        details = self.details or VariantDetails(
            thresholds={step.source: step.threshold for step in self.steps},
            measurers={step.source: step.measurer for step in self.steps},
        )
        return VariantFacts(
            **vars(details),
            name=self.name,
            stage=self.stage.key,
            score=self.stage.read()["score"],
            gain=self.score - plain.score,
            kept=int(self.selected.sum()),
            trainings=len(self.needs),
            steps=count_steps(noted[key] for key in sorted(self.needs)),
            hard=self.agreed is None and bool(np.isin(self.weights, (0, 1)).all()),
        )


def score_of(stage: Stage) -> float:
    """Return the performance of a judged training; -inf if it is not a number."""
    return or_least(stage.read()["score"])


def best_of(variants: Sequence[Variant]) -> Variant:
    """Return the variant with the best score, of equals the first."""
    return max(variants, key=lambda variant: variant.score)


@dataclass(frozen=True, eq=False)
class Plain:
    """The result of SSA or MSA as published, before anything is written."""

    method: Literal["ssa", "msa"]  # which of them
    work: Trainings  # trainings of the run
    measurers: Measurers  # measurers of the labels
    decided: Variant  # the first variant
    # decides again by the scores of other measurers, for a variant of this name
    decide: Callable[[ScoreMatrix, str], Variant]
    stages: tuple[Training, ...]  # trainings that all decisions depend on
    base: Training | None  # the one without curriculum, if there is one
    # (N,) bool, labels that count in full: annotated ones in SSA, in MSA those that the run to
    # continue had selected
    given: np.ndarray | None = None
    continued: Continued | None = None  # the run to continue
