"""SSA: single-source self-paced adapting, on any learner and any measurer."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipvg.curriculum.beyond.calibrate import search_strategy
from clipvg.curriculum.beyond.config import Beyond
from clipvg.curriculum.beyond.extend import check_beyond, extend
from clipvg.curriculum.config import SSAConfig
from clipvg.curriculum.measurements import Measurements, sources_of
from clipvg.curriculum.measurers import Measurers
from clipvg.curriculum.outcome import Adapted, Decisions, Plain, conclude
from clipvg.curriculum.protocols import Learner
from clipvg.curriculum.split import Split
from clipvg.curriculum.threshold import SearchStrategy, find_threshold
from clipvg.curriculum.trainings import Trainings
from clipvg.labels import LabelTable
from clipvg.reliability.histogram import Distribution, kept
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.runs.run import Run

MEASURER = "measurer"


def ssa(
    learner: Learner[Any],
    labels: LabelTable,
    validation: LabelTable | None = None,
    *,
    run: Run,
    config: SSAConfig | None = None,
    scored_by: str | None = None,
    strategy: SearchStrategy = find_threshold,
    beyond: Beyond | None = None,
    progress: bool = False,
    command: str | None = None,
) -> Adapted:
    """Train on all labels, measure reliability, find the threshold, keep the best model.

    1. A model is trained on all labels: the measurer, whose performance is "no curriculum".
    2. It gives every label its reliability r.
    3. `find_threshold` walks over h; each candidate is trained on the labels with r >= h and
       judged on the validation labels.
    4. The winner becomes the run's model and measures the labels again. With ``beyond`` it is the
       best of the variants.

    After CLIP-VG (arXiv 2305.08685), single-source self-paced adapting. Finished stages are read
    from the run, so a killed run continues and ends alike.

    Args:
        learner: trains, evaluates and keeps models, and makes measurers of them.
        labels: training labels; their truth is never read.
        validation: labels that candidates are judged on. None holds out images of ``labels``
            themselves, whose boxes are pseudo-labels: the summary says so.
        run: run directory, opened with these labels.
        config: options.
        scored_by: name of the measurer whose scores the labels have; nothing is measured then
            (step 2). The model of step 1 is trained for comparison.
        strategy: how the threshold is found in step 3.
        beyond: what goes beyond the published method, after it; nothing when None.
        progress: show a bar while labels are measured.
        command: what was typed, for the summary.

    Raises:
        InputError: no threshold keeps enough labels, there are no labels or no such scores.
    """
    config, beyond = config or SSAConfig(), beyond or Beyond()
    given = [scored_by] if scored_by else []
    split = Split.of(labels, validation, config.holdout, config.seed, given)
    check_beyond(beyond, given or [MEASURER])
    trainings = Trainings(
        learner,
        split.training,
        split.validation.labels,
        run=run,
        config=config,
        strategy=search_strategy(beyond, strategy),
    )
    measurements = Measurements(learner, split.training, run, progress)

    # 1. Train on all labels.
    base = trainings.train_all()
    # 2. Measure them.
    if given:
        measurers = Measurers.given(split, run)
    else:
        trained_on = {MEASURER: sources_of(split.training)}
        measurers = Measurers.of(measurements, {MEASURER: base}, trained_on)

    def decide(scores: ScoreMatrix, variant: str | None = None) -> Decisions:
        """Search the threshold of the last measurer's reliability."""
        name = scores.names[-1]
        found = trainings.search(scores[name], init=base, variant=variant)
        keep = kept(scores[name], found.search.best, strict=config.strict)
        step = found.step(source, name, specific=not given, labels=len(keep), kept=keep.sum())
        own = frozenset({base.key})
        return Decisions((step,), keep, scores[name], found.best, own, own | step.trainings)

    # 3. Search the threshold; the best candidate is the result.
    source = "+".join(sorted(set(split.training.sources())))
    reliability = Distribution(measurers.scores.scores[0]).to_dict()
    first = trainings.note(MEASURER, base, reliability=reliability)
    plain = Plain(
        method="ssa",
        split=split,
        trainings=trainings,
        measurements=measurements,
        measurers=measurers,
        stages=(first,),
        base=first,
        decisions=decide(measurers.scores),
        decide=decide,
        voters=(base,),
        groups=([source], np.zeros(len(split.training), np.int64)),
        given=np.zeros(len(split.training), bool),
    )
    return conclude(plain, extend(plain, beyond), command)
