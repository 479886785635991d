"""What SSA and MSA decide: the plain result, and variants of it."""

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
    """One result of a run: a training, what it was trained on, and what that rests on."""

    name: str  # "plain" for the published method, else what of `Beyond` made it
    stage: Stage  # its training, finished and judged
    weights: np.ndarray  # (N,) float32 in [0, 1] of the training labels; 0 is left out
    reliability: np.ndarray  # (N,) float32 that selected, NaN where nothing was decided
    steps: tuple[Step, ...]  # decisions that it comes from, one a source; one in SSA
    measured: frozenset[str]  # keys of the trainings that ``reliability`` rests on
    needs: frozenset[str]  # keys of all trainings it rests on, its own among them
    # for the summary; thresholds and measurers of the steps when None
    details: VariantDetails | None = None
    agreed: Agreed | None = None  # labels that got another box

    @property
    def score(self) -> float:
        """Performance on the validation labels; -inf where it is no number."""
        return score_of(self.stage)

    @property
    def selected(self) -> np.ndarray:
        """(N,) bool, training labels it was trained on."""
        return np.asarray(self.weights > 0)

    def facts(self, plain: Variant, noted: Mapping[str, Training]) -> VariantFacts:
        """Return what the summary says of it, whose trainings were noted by key.

        ``hard`` is one of whole labels as they are.
        """
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
    """Return the performance of a judged training; -inf where it is no number."""
    return or_least(stage.read()["score"])


def best_of(variants: Sequence[Variant]) -> Variant:
    """Return the variant with the best score, of equals the first."""
    return max(variants, key=lambda variant: variant.score)


@dataclass(frozen=True, eq=False)
class Plain:
    """The result of SSA or MSA as published, of which nothing is written yet."""

    method: Literal["ssa", "msa"]  # which of them
    work: Trainings  # trainings of the run
    measurers: Measurers  # what measured the labels
    decided: Variant  # what was decided
    # decides again by scores of other measurers, for a variant
    decide: Callable[[ScoreMatrix, str], Variant]
    stages: tuple[Training, ...]  # trainings that all decisions rest on
    base: Training | None  # the one on all labels, where there is one
    # (N,) bool, labels that count in full: annotated ones in SSA, in MSA those that the run to
    # continue had selected
    given: np.ndarray | None = None
    continued: Continued | None = None  # that run
