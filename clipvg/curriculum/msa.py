"""MSA: multi-source self-paced adapting, on any learner and any measurer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clipvg.curriculum.config import Beyond, MSAConfig
from clipvg.curriculum.material import Material
from clipvg.curriculum.measurements import scores_key, sources_of
from clipvg.curriculum.previous import Previous
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
from clipvg.curriculum.trainings import Entry, Trainings
from clipvg.curriculum.variants import FUSED, PLAIN, Variants, best_of
from clipvg.curriculum.walk import Step, Walk, Walked
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.histogram import Distribution
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import Measurer

Complexity = Callable[[LabelTable], float]
_ONCE = ("measurer", "all labels", "continued")  # trainings that all variants rest on


@dataclass(frozen=True)
class MSAResult:
    """Result of `msa`.

    Attributes:
        steps: decisions, one a source, from simple to complex; with `Beyond.measures` where that
            led to a better model.
        scores: reliability of the training labels by each measurer and by the adapted model
            ("adapted"); ``scores.specific`` and ``scores.cross`` tell a measurer's own source from
            the others.
        selected: (N,) bool, training labels that the adapted model was trained on.
        summary: what ``summary.json`` holds.
    """

    steps: tuple[Step, ...]
    scores: ScoreMatrix
    selected: np.ndarray
    summary: dict[str, Any]


def msa(
    learner: Learner,
    labels: LabelTable,
    validation: LabelTable | None = None,
    *,
    run: Run,
    store: ModelStore,
    as_measurer: Callable[[Any], Measurer],
    complexity: Complexity,
    config: MSAConfig | None = None,
    scored_by: Sequence[str] = (),
    previous: Previous | None = None,
    beyond: Beyond | None = None,
    progress: bool = False,
    notes: Mapping[str, Any] | None = None,
) -> MSAResult:
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
        learner: trains and evaluates models.
        labels: labels of any number of sources, by their ``source``; their truth is never read.
            To continue a run: its labels first, then those of new sources.
        validation: labels that candidates are judged on. None holds out images of ``labels``,
            whose pseudo-labels count by the agreement of other sources' measurers.
        run: run directory, opened with these labels.
        store: keeps models in the run.
        as_measurer: makes a trained model a measurer.
        complexity: of a source's labels; the least complex source comes first.
        config: options.
        scored_by: names of the measurers whose scores the labels have; none is trained then.
        previous: a finished run to continue: what it selected and its measurers are taken over,
            only new sources are decided on.
        beyond: what goes beyond the published method; nothing when None.
        progress: show a bar while labels are measured.
        notes: plain values to add to the summary.

    Returns:
        Decisions, scores and summary; the model's weights are in ``run.model_folder``.

    Raises:
        InputError: a source without a name, no usable threshold, no labels or no such scores.
    """
    config, beyond = config or MSAConfig(), beyond or Beyond()
    if beyond.correct is not None and scored_by and not config.baseline:
        raise InputError(
            "labels are corrected where two models agree, and with scores given and no baseline "
            "there is one; leave correct out, or train the baseline."
        )
    sides = previous.sides(labels) if previous is not None else None
    material = Material.of(labels, validation, config, scored_by, sides)
    work = Trainings(
        learner,
        material.training,
        run=run,
        store=store,
        as_measurer=as_measurer,
        config=config,
        progress=progress,
    )
    job = _MSA(work, material, config, complexity, previous, beyond)
    return job.run(scored_by, notes or {})


class _MSA:
    """One MSA."""

    def __init__(
        self,
        work: Trainings,
        material: Material,
        config: MSAConfig,
        complexity: Complexity,
        previous: Previous | None,
        beyond: Beyond,
    ) -> None:
        self.work, self.material, self.config = work, material, config
        self.previous, self.beyond = previous, beyond
        self.source_of = np.array(work.labels.sources(), dtype=object)
        old = set(previous.sources) if previous is not None else set()
        sources = [s for s in dict.fromkeys(self.source_of.tolist()) if s not in old]
        check_names(sources)
        if not sources:
            raise InputError("there are no labels of a new source; pass labels of one.")
        complexities = {s: complexity(work.labels.select(self._rows(s))) for s in sources}
        # Equally complex sources come by name, so that the order of rows decides nothing.
        self.order = sorted(sources, key=lambda s: (complexities[s], s))
        self.complexity = complexities
        self.stages: dict[str, Stage] = {}
        self.files: list[str] = []
        if not material.validation.is_held_out:
            work.validation = material.validation.labels

    def run(self, scored_by: Sequence[str], notes: Mapping[str, Any]) -> MSAResult:
        scores = self._given(scored_by) if scored_by else self._measured()
        work, base = self.work, None
        work.validation = self.material.validation.labels  # weighted by now
        measurers = [self._note_measurer(name, scores) for name in self.stages]
        if self.config.baseline:
            everything = np.ones(len(work.labels), dtype=bool)
            base = work.note("all labels", work.train([everything])[0])
        selected, before = self._start()
        continued = None if before is None else work.note("continued", before)
        names = scores.names
        scores, walks = self._walks(scores, selected, before)
        variants = self._variants(walks, base, selected, names)
        best = variants.best
        walked = walks[best_of(variants.found[: len(walks)]).name]
        own = work.measure(best.stage, ADAPTED, trained_on=sources_of(work.labels))
        both = ScoreMatrix.concat([scores, own])
        summary = {
            "method": "msa",
            **notes,
            **outcome(work, self.material, base, variants),
            "order": self.order,
            "complexity": self.complexity,
            "steps": walked.records,
            "stages": [entry for entry in (*measurers, base, continued) if entry],
            "continued": self._continued(continued),
            "measurers": describe_measurers(scores, self.stages, self.files),
            "reliability": both.to_dict(),
            "unscored": some_reasons(both),
        }
        tables = self.material.tables(best.weights, best.agreed, variants.corrections)
        work.dir.finish(summary, best.stage.model_folder, tables)
        return MSAResult(walked.steps, both, best.selected, summary)

    def _walks(
        self, scores: ScoreMatrix, selected: np.ndarray, before: Stage | None
    ) -> tuple[ScoreMatrix, dict[str, Walked]]:
        """Decide about the sources, and again with fused measures among the measurers.

        Returns:
            The scores by all of them, and the decisions by the name of their variant.
        """
        beyond = self.beyond
        walk = Walk(
            self.work,
            self.config,
            order=self.order,
            complexity=self.complexity,
            measurers=self.stages,
            beyond=beyond,
        )
        # Before the walk: a measure that cannot be made costs no training of it.
        fused = self.work.fuse(scores, beyond.measures, self.stages) if beyond.measures else None
        walks = {PLAIN: walk.run(scores, selected, before)}
        if fused is not None:
            more, file = fused
            self.files += [file] * len(more.names)
            chosen = ScoreMatrix.concat([scores, more.select(more.names[-1:])])
            walks[FUSED] = walk.run(chosen, selected, before, {"variant": FUSED})
            scores = ScoreMatrix.concat([scores, more])
        return scores, walks

    def _variants(
        self,
        walks: Mapping[str, Walked],
        base: Entry | None,
        given: np.ndarray,
        measurers: Sequence[str],
    ) -> Variants:
        work, voters = self.work, list(self.stages.values())
        if not voters and base is not None:
            voters = [work.dir.stage_of_key(base["stage"])]
        sources, group = np.unique(self.source_of.astype(str), return_inverse=True)
        variants = Variants(
            work,
            self.beyond,
            group=group,
            sources=sources.tolist(),
            measurers=measurers,
            voters=voters,
            given=given,
        )
        common = frozenset(str(entry["stage"]) for entry in work.entries if entry["name"] in _ONCE)
        variants.make([walked.variant(name, common) for name, walked in walks.items()])
        return variants

    def _rows(self, source: str) -> np.ndarray:
        return self.source_of == source

    def _given(self, scored_by: Sequence[str]) -> ScoreMatrix:
        """Take the scores that came with the labels."""
        check_names(scored_by)
        self.files = [GIVEN] * len(scored_by)
        if self.material.validation.is_held_out:
            self._weight(self.material.given_scores(held_out=True))
        return keep_given(self.work.dir, self.material.given_scores())

    def _measured(self) -> ScoreMatrix:
        """Train a measurer on each new source, and measure all labels with all measurers."""
        work = self.work
        trained_on: dict[str, tuple[str, ...]] = {}
        if self.previous is not None:
            for name, there in self.previous.measurers.items():
                self.stages[name] = self.previous.adopt(there.stage, work.dir)
                trained_on[name] = there.trained_on
        for source in self.order:
            if source in self.stages:
                raise InputError(f"there is a measurer {source!r} already; rename the new source.")
            self.stages[source] = work.train([self._rows(source)])[0]
            trained_on[source] = (source,)
        self.files = [scores_key(stage.key, name) for name, stage in self.stages.items()]
        if self.material.validation.is_held_out:
            held = self.material.validation.labels
            parts = [
                work.measure(stage, name, held, trained_on=trained_on[name], part="held_out")
                for name, stage in self.stages.items()
            ]
            self._weight(ScoreMatrix.concat(parts))
        return ScoreMatrix.concat(
            work.measure(s, name, trained_on=trained_on[name]) for name, s in self.stages.items()
        )

    def _weight(self, scores: ScoreMatrix) -> None:
        """Let held-out labels count by the agreement of other sources."""
        weighted = self.material.validation.weighted(scores)
        self.material = replace(self.material, validation=weighted)

    def _note_measurer(self, name: str, scores: ScoreMatrix) -> Entry:
        stage = self.stages[name]
        self.work.judge(stage)
        distribution = Distribution(scores.specific(name)).to_dict()
        return self.work.note("measurer", stage, measurer=name, reliability=distribution)

    def _start(self) -> tuple[np.ndarray, Stage | None]:
        """Return what is selected before the first step, and the stage trained on it."""
        if self.previous is None:
            return np.zeros(len(self.work.labels), bool), None
        stage = self.previous.adopt(self.previous.winner, self.work.dir)
        self.work.judge(stage)
        return self.previous.selected(len(self.material.labels))[~self.material.is_held], stage

    def _continued(self, entry: Entry | None) -> dict[str, Any] | None:
        if self.previous is None or entry is None:
            return None
        return {**self.previous.to_dict(), "score": entry["score"], "stage": entry["stage"]}
