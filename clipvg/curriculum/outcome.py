"""From decisions to the result of a run: what SSA and MSA decide, and how it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from clipvg.curriculum.beyond.facts import BeyondFacts
from clipvg.curriculum.config import ADAPTED
from clipvg.curriculum.measurements import Measurements, sources_of
from clipvg.curriculum.measurers import Measurers
from clipvg.curriculum.split import Split
from clipvg.curriculum.summary import (
    Continued,
    LabelFacts,
    RunSummary,
    Step,
    Training,
)
from clipvg.curriculum.threshold import ThresholdSearch
from clipvg.curriculum.trainings import Trainings
from clipvg.errors import InputError
from clipvg.reliability.histogram import Distribution
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.runs.stage import Stage

if TYPE_CHECKING:
    from clipvg.curriculum.beyond.correction import Agreed

_REASONS = 100  # labels of which the summary says why they are not scored


@dataclass(frozen=True, eq=False)
class Decisions:
    """Which labels were selected, and why.

    Attributes:
        steps: one a source, in order; one in SSA.
        selected: (N,) bool.
        reliability: (N,) float32 that decided, NaN where nothing did.
        winner: stage trained on what is selected.
        measured: keys of the trainings that ``reliability`` rests on.
        needs: keys of all trainings the decisions rest on.
    """

    steps: tuple[Step, ...]
    selected: np.ndarray
    reliability: np.ndarray
    winner: Stage
    measured: frozenset[str]
    needs: frozenset[str]


@dataclass(frozen=True, eq=False, kw_only=True)
class Plain:
    """The result of SSA or MSA as published, of which nothing is written yet.

    Attributes:
        method: which of them.
        split: the labels.
        trainings: of the run.
        measurements: of the run.
        measurers: what measured the labels.
        stages: trainings that all decisions rest on.
        base: the one on all labels, where there is one.
        decisions: what was decided.
        decide: decides again by scores of other measurers, for a variant.
        voters: stages whose models may correct labels, beside that of the variant to improve.
        groups: names of the sources, and the number of each label's, (N,).
        given: (N,) bool, labels that were selected before.
        continued: the run that this one goes on from; only MSA.
    """

    method: Literal["ssa", "msa"]
    split: Split
    trainings: Trainings
    measurements: Measurements
    measurers: Measurers
    stages: tuple[Training, ...]
    base: Training | None
    decisions: Decisions
    decide: Callable[[ScoreMatrix, str], Decisions]
    voters: tuple[Stage, ...]
    groups: tuple[list[str], np.ndarray]
    given: np.ndarray
    continued: Continued | None = None

    def outcome(self) -> Outcome:
        """Return what becomes of the run without anything beyond the method."""
        decisions = self.decisions
        weights = decisions.selected.astype(np.float32)
        return Outcome(decisions.winner, weights, decisions, self.measurers)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What becomes of a run.

    Attributes:
        stage: whose model is the result.
        weights: (N,) float32 in [0, 1] of the labels that it was trained on.
        decisions: what the summary tells of.
        measurers: what measured the labels.
        agreed: labels that it was trained on with another box.
        corrections: labels with another box that are kept as a table, chosen or not.
        beyond: variants beyond the method.
    """

    stage: Stage
    weights: np.ndarray
    decisions: Decisions
    measurers: Measurers
    agreed: Agreed | None = None
    corrections: Agreed | None = None
    beyond: BeyondFacts | None = None


@dataclass(frozen=True)
class Adapted:
    """Result of `ssa` and `msa`; the model's weights are in ``run.model_folder``.

    Attributes:
        steps: decisions, one a source, from simple to complex; one in SSA. With `Beyond.measures`
            those that led to the better model.
        scores: reliability of the training labels by each measurer and by the adapted model
            ("adapted"); ``scores.specific`` and ``scores.cross`` tell a measurer's own source from
            the others.
        selected: (N,) bool, training labels that the adapted model was trained on.
        summary: what ``summary.json`` holds.
    """

    steps: tuple[Step, ...]
    scores: ScoreMatrix
    selected: np.ndarray
    summary: RunSummary

    @property
    def thresholds(self) -> dict[str, float]:
        """The chosen threshold h* of each source, in the order of decisions."""
        return {step.source: step.threshold for step in self.steps}

    @property
    def search(self) -> ThresholdSearch:
        """The search of a run with one source.

        Raises:
            InputError: there are several.
        """
        if len(self.steps) > 1:
            raise InputError(
                f"the run has {len(self.steps)} sources with a threshold and a curve each; use "
                "thresholds, or steps of its result."
            )
        return self.steps[0].search

    @property
    def threshold(self) -> float:
        """The chosen threshold h* of a run with one source; see `search`."""
        return self.search.best


def conclude(plain: Plain, outcome: Outcome, command: str | None = None) -> Adapted:
    """Measure the labels with the adapted model, and write model, tables and summary.

    Args:
        plain: result of the method.
        outcome: of the run: `Plain.outcome`, or what `extend` made of it.
        command: what was typed, for the summary.
    """
    work, best = plain.trainings, outcome.stage
    adapted = plain.measurements.measure(best, ADAPTED, trained_on=sources_of(work.labels))
    scores = ScoreMatrix.concat([outcome.measurers.scores, adapted])
    by_name = {name: Distribution(scores[name]).to_dict() for name in scores.names}
    base, score = plain.base, best.read()["score"]
    before = None if base is None else base.score
    selected = outcome.weights > 0
    summary = RunSummary(
        method=plain.method,
        command=command,
        labels=LabelFacts.of(work.labels),
        validation=plain.split.validation.facts(),
        options=asdict(work.config),
        no_curriculum=None if base is None else base.as_baseline(),
        kept=int(selected.sum()),
        score=score,
        gain=None if before is None else score - before,
        winner=best.key,
        num_trainings=len(work.noted),
        beyond=outcome.beyond,
        steps=outcome.decisions.steps,
        stages=plain.stages,
        continued=plain.continued,
        measurers=outcome.measurers.facts(),
        reliability=by_name if plain.method == "ssa" else scores.to_dict(),
        unscored={str(row): why for row, why in list(scores.reasons.items())[:_REASONS]},
    )
    tables = plain.split.tables(outcome.weights, outcome.agreed, outcome.corrections)
    work.run.finish(summary.to_dict(), best.model_folder, tables)
    return Adapted(outcome.decisions.steps, scores, selected, summary)
