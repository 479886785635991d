"""SSA: single-source self-paced adapting, on any learner and any measurer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipvg.curriculum.config import SSAConfig
from clipvg.curriculum.material import Material
from clipvg.curriculum.protocols import Learner, ModelStore
from clipvg.curriculum.run import Run
from clipvg.curriculum.summary import (
    ADAPTED,
    GIVEN,
    check_names,
    keep_given,
    outcome,
    some_reasons,
    stack,
)
from clipvg.curriculum.threshold import ThresholdSearch
from clipvg.curriculum.trainings import Trainings, scores_key, sources_of
from clipvg.labels import LabelTable
from clipvg.reliability.histogram import Distribution, kept
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import Measurer

_ALL = "measurer"


@dataclass(frozen=True)
class SSAResult:
    """Result of `ssa`.

    Attributes:
        search: the threshold search on the validation labels.
        scores: reliability of the training labels by the measurer ("measurer", or the name of the
            given scores) and by the adapted model ("adapted").
        summary: what ``summary.json`` holds.
    """

    search: ThresholdSearch
    scores: ScoreMatrix
    summary: dict[str, Any]

    @property
    def threshold(self) -> float:
        """The chosen threshold h*."""
        return self.search.best


def ssa(
    learner: Learner,
    labels: LabelTable,
    validation: LabelTable | None = None,
    *,
    run: Run,
    store: ModelStore,
    as_measurer: Callable[[Any], Measurer],
    config: SSAConfig | None = None,
    scored_by: str | None = None,
    progress: bool = False,
    notes: Mapping[str, Any] | None = None,
) -> SSAResult:
    """Train on all labels, measure reliability, find the threshold, keep the best model.

    1. A model is trained on all labels: the measurer, whose performance is "no curriculum".
    2. It gives every label its reliability r.
    3. `find_threshold` walks over h; each candidate is trained on the labels with r >= h and
       judged on the validation labels.
    4. The winner becomes the run's model and measures the labels again.

    After CLIP-VG (arXiv 2305.08685), single-source self-paced adapting. Finished stages are read
    from the run, so a killed run continues and ends alike.

    Args:
        learner: trains and evaluates models.
        labels: training labels; their truth is never read.
        validation: labels that candidates are judged on. None holds out images of ``labels``
            themselves, whose boxes are pseudo-labels: the summary says so.
        run: run directory, opened with these labels.
        store: keeps models in the run.
        as_measurer: makes a trained model a measurer.
        config: options.
        scored_by: name of the measurer whose scores the labels have; nothing is measured then
            (step 2). The model of step 1 is trained for comparison.
        progress: show a bar while labels are measured.
        notes: plain values to add to the summary.

    Returns:
        The search, the scores and the summary; the winner's weights are in ``run.model_folder``.

    Raises:
        InputError: no threshold keeps enough labels, there are no labels or no such scores.
    """
    config = config or SSAConfig()
    check_names([scored_by] if scored_by else [])
    material = Material.of(labels, validation, config, [scored_by] if scored_by else [])
    work = Trainings(
        learner,
        material.training,
        run=run,
        store=store,
        as_measurer=as_measurer,
        config=config,
        progress=progress,
    )
    work.validation = material.validation.labels
    everything = np.ones(len(work.labels), dtype=bool)
    base = work.train([everything])[0]
    sources = sources_of(work.labels)
    if scored_by is None:
        scores, file = work.measure(base, _ALL, trained_on=sources), scores_key(base.key, _ALL)
    else:
        scores, file = keep_given(run, material.given_scores()), GIVEN
    name = scores.names[0]
    reliability = scores[name]
    first = work.note(_ALL, base, reliability=Distribution(reliability).to_dict())
    search, entries = work.search(reliability, init=base)
    selected = kept(reliability, search.best, strict=config.strict)
    winner = work.stage(selected, config.search, base if config.warm_start else None)
    both = stack(scores, work.measure(winner, ADAPTED, trained_on=sources))
    run.record(event="chosen", threshold=search.best, score=search.score)
    measurer = {"name": name, "stage": None if scored_by else base.key, "trained_on": sources}
    candidates = [entries[h] for h, _ in search.curve]
    summary = {
        "method": "ssa",
        **(notes or {}),
        **outcome(work, material, first, search.score, int(selected.sum())),
        "threshold": search.best,
        "search": search.to_dict(),
        "stages": [first, *candidates],
        "measurers": [{**measurer, "scores": file}],
        "winner": winner.key,
        "reliability": {n: Distribution(both[n]).to_dict() for n in both.names},
        "unscored": some_reasons(both),
    }
    run.finish(summary, winner.model_folder, material.tables(selected))
    return SSAResult(search, both, summary)
