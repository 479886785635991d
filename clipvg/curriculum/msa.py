"""MSA: multi-source self-paced adapting, for any learner and any measurer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from clipvg.curriculum.adapted import Adapted, conclude
from clipvg.curriculum.beyond.calibrate import search_strategy
from clipvg.curriculum.beyond.config import Beyond
from clipvg.curriculum.beyond.extend import check_beyond, first_variant
from clipvg.curriculum.config import MSAConfig
from clipvg.curriculum.continued import Sources
from clipvg.curriculum.measurers import Measurers, check_names, train_measurers
from clipvg.curriculum.outcome import PLAIN, Plain, Variant
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


def msa(
    learner: Learner[Any],
    run: Run,
    *,
    config: MSAConfig | None = None,
    sources: Sources | None = None,
    strategy: SearchStrategy = find_threshold,
    beyond: Beyond | None = None,
    progress: bool = False,
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
    from the run, so a killed run resumes and gives the same result.

    Args:
        learner: trains, evaluates and saves models, and makes measurers of them.
        run: run directory with labels of any number of sources, whose truth is never read, and
            the validation labels that candidates are judged on. Without validation labels, images
            are held out and their pseudo-labels weighted by the agreement of the measurers of
            other sources. To continue a run: its labels first, then those of new sources.
        config: options.
        sources: scores that the labels already have, a run to continue, the order of the sources.
        strategy: how each threshold is found in step 2.
        beyond: extensions made after the published method; none when None.
        progress: show a bar while labels are measured.

    Raises:
        InputError: a source has no name, no threshold is usable, or labels or scores are missing.
    """
    config, beyond, sources = config or MSAConfig(), beyond or Beyond(), sources or Sources()
    previous, given = sources.previous, sources.scored_by
    split = Split.of(run, config, given, previous.sides(run.labels) if previous else None)
    order = _simple_to_complex(split.training, sources)
    names = given or [*(previous.measurers if previous else ()), *order]
    has_models = not given
    check_beyond(beyond, names, has_models=has_models, has_voter=config.baseline or has_models)
    strategy, held_out = search_strategy(beyond, strategy), split.is_held_out
    work = Trainings(learner, split, run, config, strategy, progress, judges=not held_out)

    # 1. A measurer for each source measures all labels.
    measurers = Measurers.given(work) if given else train_measurers(work, order, previous)
    if held_out:  # labels are weighted by how far the measurers agree with them
        work = replace(work, split=split.weighted(measurers.held_out(work)), judges=True)
    once = measurers.note(work)
    base = work.note("all labels", work.train_all()) if config.baseline else None
    start = Selected.before(work, previous)
    earlier = None if start.stage is None else work.note("continued", start.stage)
    once += tuple(filter(None, (base, earlier)))
    rests_on = measurers.trainings.union(training.stage for training in once)

    # 2. Select source by source, from simple to complex; the last step's model is the result.
    def decide(scores: ScoreMatrix, variant: str | None = None) -> Variant:
        """For each source choose a measurer, search its threshold, and add the labels kept."""
        at = SourceSteps(work, order, measurers.stages, config.h0, scores, variant)
        steps: list[Step] = []
        selected = start
        for source in order:
            choice = at.choose_measurer(source, selected)
            step, selected = at.search_threshold(source, choice, selected)
            steps.append(step)
        assert selected.stage is not None
        needs = rests_on.union(*(step.trainings for step in steps))
        return Variant(
            name=variant or PLAIN,
            stage=selected.stage,
            weights=selected.mask.astype(np.float32),
            reliability=selected.reliability,
            steps=tuple(steps),
            measured=needs,
            needs=needs,
        )

    first = first_variant(work, measurers, beyond, decide)
    plain = Plain("msa", work, measurers, first, decide, once, base)
    if previous and earlier:
        plain = replace(plain, given=start.mask, continued=previous.facts(earlier))
    return conclude(plain, beyond)


def _simple_to_complex(labels: LabelTable, sources: Sources) -> dict[str, float]:
    """Return the complexity of each new source, the simplest first."""
    names = np.array(labels.sources(), dtype=object)
    old = sources.previous.sources if sources.previous else ()
    new = [source for source in dict.fromkeys(names.tolist()) if source not in old]
    check_names(new)
    if not new:
        raise InputError("there are no labels of a new source; pass labels of one.")
    found = {source: sources.complexity(labels.select(names == source)) for source in new}
    # Equally complex sources are ordered by name, so that the order of rows does not matter.
    return {source: found[source] for source in sorted(new, key=lambda s: (found[s], s))}
