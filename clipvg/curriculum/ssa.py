"""SSA: single-source self-paced adapting, on any learner and any measurer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipvg.curriculum.calibrate import unsearched_threshold
from clipvg.curriculum.config import Beyond, SSAConfig
from clipvg.curriculum.material import Material
from clipvg.curriculum.measurements import scores_key, sources_of
from clipvg.curriculum.protocols import Learner, ModelStore
from clipvg.curriculum.run import Run, Stage
from clipvg.curriculum.summary import (
    ADAPTED,
    GIVEN,
    check_names,
    describe_measurers,
    keep_given,
    outcome,
    some_reasons,
)
from clipvg.curriculum.threshold import ThresholdSearch
from clipvg.curriculum.trainings import Entry, Trainings
from clipvg.curriculum.variants import FUSED, PLAIN, Variant, Variants
from clipvg.labels import LabelTable
from clipvg.reliability.histogram import Distribution, kept
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import Measurer

_ALL = "measurer"


@dataclass(frozen=True)
class SSAResult:
    """Result of `ssa`.

    Attributes:
        search: the threshold search on the validation labels; of `Beyond.measures` where that
            led to a better model.
        scores: reliability of the training labels by the measurer ("measurer", or the name of the
            given scores), by further measures and by the adapted model ("adapted").
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
    beyond: Beyond | None = None,
    progress: bool = False,
    notes: Mapping[str, Any] | None = None,
) -> SSAResult:
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
        beyond: what goes beyond the published method; nothing when None.
        progress: show a bar while labels are measured.
        notes: plain values to add to the summary.

    Returns:
        The search, the scores and the summary; the winner's weights are in ``run.model_folder``.

    Raises:
        InputError: no threshold keeps enough labels, there are no labels or no such scores.
    """
    config, beyond = config or SSAConfig(), beyond or Beyond()
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
    if scored_by is None:
        scores = work.measure(base, _ALL, trained_on=sources_of(work.labels))
        stages, files = {_ALL: base}, [scores_key(base.key, _ALL)]
    else:
        scores, stages, files = keep_given(run, material.given_scores()), {}, [GIVEN]
    name = scores.names[0]
    first = work.note(_ALL, base, reliability=Distribution(scores[name]).to_dict())
    # Before the search: a measure that cannot be made costs no training of it.
    fused = work.fuse(scores, beyond.measures, stages) if beyond.measures else None
    searched = [_searched(work, beyond, PLAIN, name, scores[name], base)]
    if fused is not None:
        more, file = fused
        name = more.names[-1]
        searched.append(_searched(work, beyond, FUSED, name, more[name], base))
        scores = ScoreMatrix.concat([scores, more])
        files = files + [file] * len(more.names)
    first_ones = [each.variant for each in searched]
    variants = _variants(work, beyond, base, scores.names[0], first_ones)
    best, decided = variants.best, max(searched, key=lambda each: each.variant.score)
    search = decided.search
    own = work.measure(best.stage, ADAPTED, trained_on=sources_of(work.labels))
    both = ScoreMatrix.concat([scores, own])
    run.record(event="chosen", threshold=search.best, score=search.score)
    summary = {
        "method": "ssa",
        **(notes or {}),
        **outcome(work, material, first, variants),
        "measurer": decided.measurer,
        "threshold": search.best,
        "search": search.to_dict(),
        "stages": [first, *decided.candidates],
        "measurers": describe_measurers(scores, stages, files),
        "reliability": {n: Distribution(both[n]).to_dict() for n in both.names},
        "unscored": some_reasons(both),
    }
    tables = material.tables(best.weights, best.agreed, variants.corrections)
    run.finish(summary, best.stage.model_folder, tables)
    return SSAResult(search, both, summary)


def _variants(
    work: Trainings, beyond: Beyond, base: Stage, measurer: str, first: Sequence[Variant]
) -> Variants:
    """Make what goes beyond the published method; all labels are of one source."""
    one = np.zeros(len(work.labels), np.int64)
    name = "+".join(sources_of(work.labels))
    variants = Variants(
        work, beyond, group=one, sources=[name], measurers=[measurer], voters=[base]
    )
    variants.make(first)
    return variants


@dataclass(frozen=True)
class _Searched:
    """A search, the measurer whose reliability selected, and the best candidate."""

    variant: Variant
    measurer: str
    search: ThresholdSearch
    candidates: list[Entry]


def _searched(
    work: Trainings,
    beyond: Beyond,
    name: str,
    measurer: str,
    reliability: np.ndarray,
    base: Stage,
) -> _Searched:
    """Search the threshold on a measurer's reliability, or take the calibrated one."""
    at = unsearched_threshold(beyond, reliability, strict=work.config.strict)
    note = {"variant": name} if name != PLAIN else {}
    search, entries = work.search(reliability, at=at, init=base, note=note)
    candidates = [entries[h] for h, _ in search.curve]
    source = "+".join(sources_of(work.labels))
    variant = Variant(
        name,
        work.dir.stage_of_key(str(entries[search.best]["stage"])),
        kept(reliability, search.best, strict=work.config.strict).astype(np.float32),
        reliability,
        needs=frozenset({base.key, *(str(entry["stage"]) for entry in candidates)}),
        measured=frozenset({base.key}),
        facts={"thresholds": {source: search.best}, "measurers": {source: measurer}},
    )
    return _Searched(variant, measurer, search, candidates)
