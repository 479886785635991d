"""MSA: multi-source self-paced adapting, on any learner and any measurer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from clipvg.curriculum.beyond.calibrate import search_strategy
from clipvg.curriculum.beyond.config import Beyond
from clipvg.curriculum.beyond.extend import check_beyond, extend
from clipvg.curriculum.config import MSAConfig
from clipvg.curriculum.continued import Previous
from clipvg.curriculum.measurements import Measurements
from clipvg.curriculum.measurers import Measurers, check_names, train_measurers
from clipvg.curriculum.outcome import Adapted, Decisions, Plain, conclude
from clipvg.curriculum.protocols import Learner
from clipvg.curriculum.source_steps import Selected, SourceSteps
from clipvg.curriculum.split import Split
from clipvg.curriculum.summary import Step
from clipvg.curriculum.threshold import SearchStrategy, find_threshold
from clipvg.curriculum.trainings import Trainings
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.runs.run import Run

Complexity = Callable[[LabelTable], float]


def msa(
    learner: Learner[Any],
    labels: LabelTable,
    validation: LabelTable | None = None,
    *,
    run: Run,
    complexity: Complexity,
    config: MSAConfig | None = None,
    scored_by: Sequence[str] = (),
    previous: Previous | None = None,
    strategy: SearchStrategy = find_threshold,
    beyond: Beyond | None = None,
    progress: bool = False,
    command: str | None = None,
) -> Adapted:
    """Select reliable labels source by source, from simple to complex, and train on them.

    1. A measurer M_i is trained on the labels of each source S_i and gives every label its
       reliability R_ij.
    2. Sources are ordered by complexity. For the next source j, D being what is selected so far:
       the measurer i* is the one whose labels with R_ij >= h0, joined with D, train the best
       model; `find_threshold` finds h* in the same way; the labels with R_i*j >= h* join D.
    3. The model trained on D is the result: that of the last search's winner. With ``beyond`` it
       is the best of the variants.

    After CLIP-VG (arXiv 2305.08685), multi-source self-paced adapting. Finished stages are read
    from the run, so a killed run continues and ends alike.

    Args:
        learner: trains, evaluates and keeps models, and makes measurers of them.
        labels: labels of any number of sources, by their ``source``; their truth is never read.
            To continue a run: its labels first, then those of new sources.
        validation: labels that candidates are judged on. None holds out images of ``labels``,
            whose pseudo-labels count by the agreement of other sources' measurers.
        run: run directory, opened with these labels.
        complexity: of a source's labels; the least complex source comes first.
        config: options.
        scored_by: names of the measurers whose scores the labels have; none is trained then.
        previous: a finished run to continue: what it selected and its measurers are taken over,
            only new sources are decided on.
        strategy: how each threshold is found in step 2.
        beyond: what goes beyond the published method, after it; nothing when None.
        progress: show a bar while labels are measured.
        command: what was typed, for the summary.

    Raises:
        InputError: a source without a name, no usable threshold, no labels or no such scores.
    """
    config, beyond = config or MSAConfig(), beyond or Beyond()
    sides = previous.sides(labels) if previous else None
    split = Split.of(labels, validation, config.holdout, config.seed, scored_by, sides)
    order = _simple_to_complex(split.training, complexity, previous)
    measurer_names = scored_by or [*(previous.measurers if previous else ()), *order]
    check_beyond(beyond, measurer_names, has_voter=config.baseline or not scored_by)
    deciding = split.validation
    trainings = Trainings(
        learner,
        split.training,
        None if deciding.is_held_out else deciding.labels,
        run=run,
        config=config,
        strategy=search_strategy(beyond, strategy),
    )
    measurements = Measurements(learner, split.training, run, progress)
    # 1. A measurer for each source measures all labels.
    if scored_by:
        measurers = Measurers.given(split, run)
    else:
        measurers = train_measurers(trainings, measurements, order, previous)
    if deciding.is_held_out:
        split = split.weighted(measurers.held_out(split, measurements))
        trainings = trainings.judged_on(split.validation.labels)
    once = measurers.note(trainings)
    base = trainings.train_all() if config.baseline else None
    everything = None if base is None else trainings.note("all labels", base)
    start = Selected.before(split, trainings, previous)
    earlier = None if start.stage is None else trainings.note("continued", start.stage)
    once += tuple(filter(None, (everything, earlier)))
    rest_on = frozenset(training.stage for training in once)

    # 2. Select source by source, from simple to complex; the last step's model is the result.
    def decide(scores: ScoreMatrix, variant: str | None = None) -> Decisions:
        """For each source choose a measurer, search its threshold, and join what it keeps."""
        at = SourceSteps(trainings, order, measurers.stages, config.h0, scores, variant)
        steps: list[Step] = []
        selected = start
        for source in order:
            choice = at.choose_measurer(source, selected)
            step, selected = at.search_threshold(source, choice, selected)
            steps.append(step)
        assert selected.stage is not None
        needs = rest_on.union(*(step.trainings for step in steps))
        return Decisions(
            tuple(steps), selected.mask, selected.reliability, selected.stage, needs, needs
        )

    voters = tuple(measurers.stages.values()) or (base,)
    sources, group = np.unique(np.array(split.training.sources()), return_inverse=True)
    plain = Plain(
        method="msa",
        split=split,
        trainings=trainings,
        measurements=measurements,
        measurers=measurers,
        stages=once,
        base=everything,
        decisions=decide(measurers.scores),
        decide=decide,
        voters=tuple(stage for stage in voters if stage),
        groups=(sources.tolist(), group),
        given=start.mask,
        continued=previous.facts(earlier) if previous and earlier else None,
    )
    return conclude(plain, extend(plain, beyond), command)


def _simple_to_complex(
    labels: LabelTable, complexity: Complexity, previous: Previous | None
) -> dict[str, float]:
    """Return the complexity of each new source, the simplest first."""
    names = np.array(labels.sources(), dtype=object)
    old = previous.sources if previous else ()
    sources = [source for source in dict.fromkeys(names.tolist()) if source not in old]
    check_names(sources)
    if not sources:
        raise InputError("there are no labels of a new source; pass labels of one.")
    found = {source: complexity(labels.select(names == source)) for source in sources}
    # Equally complex sources come by name, so that the order of rows decides nothing.
    return {source: found[source] for source in sorted(sources, key=lambda s: (found[s], s))}
