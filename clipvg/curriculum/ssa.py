"""SSA: single-source self-paced adapting, for any learner and any measurer."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipvg.curriculum.adapted import Adapted, conclude
from clipvg.curriculum.beyond.calibrate import search_strategy
from clipvg.curriculum.beyond.config import Beyond
from clipvg.curriculum.beyond.extend import check_beyond, first_variant
from clipvg.curriculum.candidates import search_threshold
from clipvg.curriculum.config import SSAConfig
from clipvg.curriculum.measurers import Measurers
from clipvg.curriculum.outcome import PLAIN, Plain, Variant
from clipvg.curriculum.protocols import Learner
from clipvg.curriculum.split import Split
from clipvg.curriculum.threshold import SearchStrategy, find_threshold
from clipvg.curriculum.trainings import Trainings
from clipvg.reliability.histogram import Distribution
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.runs.run import Run

MEASURER = "measurer"


def ssa(
    learner: Learner[Any],
    run: Run,
    *,
    config: SSAConfig | None = None,
    scored_by: str | None = None,
    strategy: SearchStrategy = find_threshold,
    beyond: Beyond | None = None,
    progress: bool = False,
) -> Adapted:
    """Train on all labels, measure reliability, find the threshold, keep the best model.

    1. A model is trained on all labels: the measurer, whose performance is "no curriculum". If
       some labels are annotated (`join_labelled`), it is trained on these alone, and all candidates
       are trained on these too: semi-supervised.
    2. It gives every label its reliability r.
    3. `find_threshold` walks over h; each candidate is trained on the labels with r >= h and
       judged on the validation labels.
    4. The winner becomes the run's model and measures the labels again. With ``beyond`` it is the
       best of the variants.

    After CLIP-VG (arXiv 2305.08685), single-source self-paced adapting. Finished stages are read
    from the run, so a killed run resumes and gives the same result.

    Args:
        learner: trains, evaluates and saves models, and makes measurers of them.
        run: run directory with the training labels, whose truth is never read, and the validation
            labels that candidates are judged on. Without validation labels, images of the training
            labels are held out; their boxes are pseudo-labels, and the summary says so.
        config: options.
        scored_by: name of a measurer whose scores the labels already have; step 2 is left out
            then, and the model of step 1 is trained for comparison.
        strategy: how the threshold is found in step 3.
        beyond: extensions made after the published method; none when None.
        progress: show a bar while labels are measured.

    Raises:
        InputError: no threshold keeps enough labels, or labels or scores are missing.
    """
    config, beyond = config or SSAConfig(), beyond or Beyond()
    given = [scored_by] if scored_by else []
    split = Split.of(run, config, given)
    check_beyond(beyond, given or [MEASURER], has_models=not given)
    strategy = search_strategy(beyond, strategy)
    work = Trainings(learner, split, run, config, strategy, progress)
    annotated = split.labelled

    # 1. Train on all labels, or on those that are annotated.
    base = work.train_first()
    # 2. Measure them.
    if given:
        measurers = Measurers.given(work)
    else:
        taught = annotated if annotated.any() else np.ones(len(work.labels), bool)
        measurers = Measurers.of(work, {MEASURER: base}, {MEASURER: taught})
    rests_on = measurers.trainings | {base.key}

    def decide(scores: ScoreMatrix, variant: str | None = None) -> Variant:
        """Search for a threshold of the last measurer's reliability."""
        name = scores.names[-1]
        found = search_threshold(work, scores[name], init=base, variant=variant)
        source = "+".join(sorted(set(work.labels.sources())))
        step = found.step(
            source, name, specific=not given, labels=len(split.training), kept=found.keep.sum()
        )
        return Variant(
            name=variant or PLAIN,
            stage=found.best,
            weights=found.keep.astype(np.float32),
            reliability=np.where(annotated, np.float32(np.nan), scores[name]),
            steps=(step,),
            measured=rests_on,
            needs=step.trainings | rests_on,
        )

    # 3. Search the threshold; the best candidate is the result.
    reliability = Distribution(measurers.scores.scores[0]).to_dict()
    first = work.note(MEASURER, base, reliability=reliability)
    plain = first_variant(work, measurers, beyond, decide)
    made = Plain("ssa", work, measurers, plain, decide, (first,), first, given=annotated)
    return conclude(made, beyond)
