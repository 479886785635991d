"""Variants of a run's result beyond the published method, and which of them is the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from clipvg.curriculum.beyond.correction import Agreed
from clipvg.curriculum.beyond.facts import VariantDetails, VariantFacts
from clipvg.curriculum.outcome import Decisions
from clipvg.runs.stage import Stage


@dataclass(frozen=True, eq=False, kw_only=True)
class Variant:
    """One result of a run: a training, what it was trained on and what it rests on.

    Attributes:
        name: of the variant.
        stage: its training, finished and judged.
        weights: (N,) float32 in [0, 1] of the training labels; 0 is left out.
        reliability: (N,) float32 that selected, NaN where nothing was decided.
        needs: keys of all trainings it rests on, its own among them.
        measured: keys of the trainings that ``reliability`` rests on.
        details: for the summary.
        agreed: labels that got another box.
    """

    name: str
    stage: Stage
    weights: np.ndarray
    reliability: np.ndarray
    needs: frozenset[str]
    measured: frozenset[str]
    details: VariantDetails
    agreed: Agreed | None = None

    @classmethod
    def of(cls, name: str, decisions: Decisions) -> Variant:
        """Return the decisions of SSA or MSA as a variant."""
        steps = decisions.steps
        return cls(
            name=name,
            stage=decisions.winner,
            weights=decisions.selected.astype(np.float32),
            reliability=decisions.reliability,
            needs=decisions.needs,
            measured=decisions.measured,
            details=VariantDetails(
                thresholds={step.source: step.threshold for step in steps},
                measurers={step.source: step.measurer for step in steps},
            ),
        )

    def changed(
        self,
        name: str,
        stage: Stage,
        weights: np.ndarray,
        needs: frozenset[str],
        details: VariantDetails,
        agreed: Agreed | None = None,
    ) -> Variant:
        """Return a variant that uses this one's reliability; it needs its own training too."""
        return replace(
            self,
            name=name,
            stage=stage,
            weights=weights.astype(np.float32),
            needs=needs | {stage.key},
            details=details,
            agreed=agreed,
        )

    @property
    def score(self) -> float:
        """Performance on the validation labels; -inf where it is no number."""
        score = self.stage.read()["score"]
        return -math.inf if score is None or math.isnan(score) else float(score)

    @property
    def selected(self) -> np.ndarray:
        """(N,) bool, training labels it was trained on."""
        return np.asarray(self.weights > 0)

    @property
    def is_hard(self) -> bool:
        """Whether it was trained on labels as they are, each in full or not at all."""
        return self.agreed is None and bool(np.isin(self.weights, (0, 1)).all())

    def facts(self, plain: Variant) -> VariantFacts:
        """Return what the summary says of it."""
        return VariantFacts(
            **vars(self.details),
            name=self.name,
            stage=self.stage.key,
            score=self.stage.read()["score"],
            gain=self.score - plain.score,
            kept=int(self.selected.sum()),
            trainings=len(self.needs),
            hard=self.is_hard,
        )


def best_of(variants: Sequence[Variant]) -> Variant:
    """Return the variant with the best score, of equals the first."""
    return max(variants, key=lambda variant: variant.score)
