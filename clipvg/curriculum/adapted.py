"""Last step of SSA and MSA: the best variant becomes the run's model, tables and summary."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from clipvg.curriculum.beyond.config import Beyond
from clipvg.curriculum.beyond.extend import Variants
from clipvg.curriculum.config import ADAPTED, LEAST_SHARE
from clipvg.curriculum.measuring import fold_facts, measure
from clipvg.curriculum.outcome import Plain
from clipvg.curriculum.split import sources_of
from clipvg.curriculum.summary import (
    Baseline,
    LabelFacts,
    RunSummary,
    Step,
    ValidationFacts,
    count_steps,
)
from clipvg.curriculum.threshold import ThresholdSearch
from clipvg.errors import InputError
from clipvg.reliability.histogram import Distribution
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.similarity import IOU, similarity_name

_REASONS = 100  # unscored labels for which the summary gives the reason, at most


@dataclass(frozen=True)
class Adapted:
    """Result of `ssa` and `msa`; the model's weights are in ``run.model_folder``.

    Attributes:
        steps: decisions, one per source, from simple to complex; one in SSA. With
            `Beyond.measures`, those that led to the better model.
        scores: reliability of the training labels by each measurer and by the adapted model
            ("adapted"); ``scores.specific`` and ``scores.cross`` tell a measurer's own source from
            the others.
        selected: (N,) bool, training labels that the adapted model was trained on.
        summary: the content of ``summary.json``.
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
            InputError: the run has several sources.
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


def conclude(plain: Plain, beyond: Beyond) -> Adapted:
    """Make the variants of `Beyond`, measure with the best model, and write the result."""
    made, work, base = Variants(plain, beyond), plain.work, plain.base
    best, score = made.best, made.best.stage.read()["score"]
    adapted = measure(work, best.stage, ADAPTED, trained_on=sources_of(work.labels))
    scores = ScoreMatrix.concat([made.measurers.scores, adapted])
    by_name = {name: Distribution(scores[name]).to_dict() for name in scores.names}
    without = None
    if base is not None:
        without = Baseline(stage=base.stage, score=base.score, kept=base.kept)
    split, reasons = work.split, list(scores.reasons.items())[:_REASONS]
    deciding = {"held_out": split.is_held_out, "weighted": split.is_weighted}
    summary = RunSummary(
        method=plain.method,
        command=work.run.command,
        similarity=similarity_name(getattr(work.learner, "similarity", IOU)),
        labels=LabelFacts.of(work.labels),
        validation=ValidationFacts.told(split.validation, **deciding),
        options=asdict(work.config),
        no_curriculum=without,
        kept=int(best.selected.sum()),
        score=score,
        gain=None if base is None or base.score is None else score - base.score,
        winner=best.stage.key,
        num_trainings=len(work.noted),
        num_steps=count_steps(work.noted.values()),
        folds=fold_facts(work),
        beyond=made.facts(),
        steps=best.steps,
        stages=plain.stages,
        continued=plain.continued,
        measurers=made.measurers.facts(),
        reliability=by_name if plain.method == "ssa" else scores.to_dict(),
        unscored={str(row): why for row, why in reasons},
    )
    summary = replace(summary, notes=notes(summary))
    tables = split.tables(best.weights, best.agreed, made.corrections)
    work.run.finish(summary.to_dict(), best.stage.model_folder, tables)
    return Adapted(best.steps, scores, best.selected, summary)


def notes(summary: RunSummary) -> tuple[str, ...]:
    """Return sentences: worse than an earlier stage, trained without sources, or on few labels."""
    found = []
    stages = {
        f"the model after source {step.source!r}": (step.score, stage.stage)
        for step in summary.steps[:-1]
        for stage in step.stages
        if stage.threshold == step.threshold
    }
    if (base := summary.no_curriculum) is not None and base.score is not None:
        stages[f"the model trained on {summary.first_name}"] = base.score, base.stage
    if stages:
        name, (score, stage) = max(stages.items(), key=lambda item: item[1][0])
        if score > summary.score:
            found.append(
                f"The result ({_percent(summary.score)}) is worse than {name} ({_percent(score)}), "
                f"which is kept in stages/{stage}/model."
            )
    if summary.beyond is not None and (said := summary.beyond.winner.said_of_sources):
        found.append(f"The result was trained {said}.")
    if summary.kept < LEAST_SHARE * summary.labels.count:
        found.append(
            f"Only {summary.kept:,} of {summary.labels.count:,} labels were kept: few teach "
            "little, and their validation score may be luck. A higher min_kept asks for more."
        )
    return tuple(found)


def _percent(score: float) -> str:
    return f"{100 * score:.1f} %"
