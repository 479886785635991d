"""Variants of a run's result beyond the published method, and which of them is the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from clipvg.curriculum.calibrate import calibrated_threshold, soft_weights, unsearched_threshold
from clipvg.curriculum.config import Beyond
from clipvg.curriculum.correction import Agreed, agreed_boxes
from clipvg.curriculum.measurements import scores_key, sources_of
from clipvg.curriculum.run import Stage
from clipvg.curriculum.trainings import Trainings
from clipvg.errors import InputError
from clipvg.reliability.histogram import kept
from clipvg.reliability.matrix import ScoreMatrix

PLAIN, CALIBRATED, FUSED = "plain", "calibrated", "fused"


@dataclass(frozen=True, eq=False)
class Variant:
    """One result of a run: a training, what it was trained on and what it rests on.

    Attributes:
        name: of the variant.
        stage: its training, finished and judged.
        weights: (N,) float32 in [0, 1] of the training labels; 0 is left out.
        reliability: (N,) float32 that selected, NaN where nothing was decided.
        needs: keys of all trainings it rests on, its own among them.
        measured: keys of the trainings that ``reliability`` rests on.
        agreed: labels that got another box.
        facts: plain values for the summary, thresholds by source and the like.
    """

    name: str
    stage: Stage
    weights: np.ndarray
    reliability: np.ndarray
    needs: frozenset[str]
    measured: frozenset[str]
    agreed: Agreed | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """Performance on the validation labels; -inf where it is no number."""
        score = self.stage.read()["score"]
        return -math.inf if score is None or math.isnan(score) else float(score)

    @property
    def selected(self) -> np.ndarray:
        """(N,) bool, training labels it was trained on."""
        chosen: np.ndarray = self.weights > 0
        return chosen

    @property
    def is_hard(self) -> bool:
        """Whether it was trained on labels as they are, each in full or not at all."""
        return self.agreed is None and bool(np.isin(self.weights, (0, 1)).all())

    def to_dict(self, plain: Variant) -> dict[str, Any]:
        """Return what the summary says of it."""
        return {
            "name": self.name,
            "stage": self.stage.key,
            "score": self.stage.read()["score"],
            "gain": self.score - plain.score,
            "kept": int(self.selected.sum()),
            "trainings": len(self.needs),
            "hard": self.is_hard,
            **self.facts,
        }


def best_of(variants: Sequence[Variant]) -> Variant:
    """Return the variant with the best score, of equals the first."""
    return max(variants, key=lambda variant: variant.score)


class Variants:
    """The variants of one run.

    Args:
        work: trainings of the run.
        beyond: which variants to make.
        group: (N,) whole numbers, the source of each training label.
        sources: names of the sources by their number.
        measurers: names of the measurers, by which measures ask for their scores.
        voters: stages whose models correct labels, beside that of the variant to improve.
        given: (N,) bool, labels that count in full where a variant's reliability says nothing;
            none when None.
    """

    def __init__(
        self,
        work: Trainings,
        beyond: Beyond,
        *,
        group: np.ndarray,
        sources: Sequence[str],
        measurers: Sequence[str],
        voters: Sequence[Stage],
        given: np.ndarray | None = None,
    ) -> None:
        self._work, self.beyond = work, beyond
        self._group, self._sources = group, sources
        self._measurers, self._voters = measurers, voters
        self._given = np.zeros(len(group), bool) if given is None else given
        self.found: list[Variant] = []
        self.skipped: dict[str, str] = {}
        self.stopped: str | None = None

    @property
    def best(self) -> Variant:
        """The best variant so far."""
        return best_of(self.found)

    @property
    def corrections(self) -> Agreed | None:
        """Labels with another box: of the best variant, else of the best that has some."""
        with_some = [variant for variant in self.found if variant.agreed is not None]
        if self.best.agreed is not None or not with_some:
            return self.best.agreed
        return best_of(with_some).agreed

    def make(self, first: Sequence[Variant]) -> None:
        """Make all variants.

        Args:
            first: of the published method, and of fused measures.
        """
        self.found = [*first]
        self.found += self._of(best_of(first))
        for number in range(1, self.beyond.rounds + 1):
            before = self.best
            try:
                new = self._round(number, before)
            except InputError as error:  # no threshold: what was found so far is the result
                self.skipped[f"round {number}"] = str(error)
                break
            self.found += new
            if best_of(new).score <= before.score:
                self.stopped = f"round {number} is not better"
                break

    def to_dict(self) -> dict[str, Any]:
        """Return what the summary says of them."""
        return {
            "options": asdict(self.beyond),
            "chosen": self.best.name,
            "variants": [variant.to_dict(self.found[0]) for variant in self.found],
            "skipped": self.skipped,
            "stopped": self.stopped,
        }

    def _of(self, base: Variant, prefix: str = "") -> list[Variant]:
        """Variants that use the reliability of another one."""
        beyond, made = self.beyond, []
        if beyond.calibrated is not None and not beyond.skip_search:
            made.append(self._calibrated(base, prefix + CALIBRATED, beyond.calibrated))
        if beyond.soft:
            made.append(self._soft(base, prefix + "soft"))
        if beyond.correct is not None:
            made.append(self._corrected(base, prefix + "corrected", beyond.correct))
        return [variant for variant in made if variant is not None]

    def _unjudged(self, base: Variant) -> np.ndarray:
        unjudged: np.ndarray = self._given & np.isnan(base.reliability)
        return unjudged

    def _soft(self, base: Variant, name: str) -> Variant:
        weights = soft_weights(base.reliability, self._group)
        weights[self._unjudged(base)] = 1
        stage = self._work.train_weighted(weights, init=base.stage)
        facts = {"weight": round(float(weights.sum(dtype=np.float64)), 3)}
        return self._variant(name, stage, weights, base, facts=facts)

    def _calibrated(self, base: Variant, name: str, least: float) -> Variant | None:
        r, strict = base.reliability, self._work.config.strict
        thresholds, keep = {}, self._unjudged(base)
        for number, source in enumerate(self._sources):
            rows = self._group == number
            thresholds[source] = calibrated_threshold(r[rows], least, strict=strict)
            keep |= rows & kept(r, thresholds[source], strict=strict)
        if keep.sum() < max(1, self._work.config.min_kept):
            self.skipped[name] = f"keeps {keep.sum()} label(s)"
            return None
        stage = self._work.train([keep], search=self._work.config.search, init=base.stage)[0]
        return self._variant(name, stage, keep, base, facts={"thresholds": thresholds})

    def _corrected(self, base: Variant, name: str, agreement: float) -> Variant | None:
        work = self._work
        stages = {stage.key: stage for stage in (*self._voters, base.stage)}
        if len(stages) < 2:  # the threshold keeps all labels: the measurer is the result
            self.skipped[name] = "there is one model, which has no one to agree with"
            return None
        boxes = np.stack([work.predict(stage) for stage in stages.values()])
        agreed = agreed_boxes(boxes, work.labels.boxes(), agreement).select(~base.selected)
        if not len(agreed):
            self.skipped[name] = "the models agree about no label that was left out"
            return None
        weights = base.weights.copy()
        weights[agreed.rows] = 1
        labels = agreed.apply(work.labels)
        stage = work.train_weighted(weights, labels=labels, init=base.stage)
        needs = base.needs | {*stages}
        facts = {"corrected": len(agreed), "voters": len(stages)}
        return self._variant(name, stage, weights, base, needs=needs, agreed=agreed, facts=facts)

    def _round(self, number: int, before: Variant) -> list[Variant]:
        """Let the best model so far measure the labels, and select anew."""
        work, name = self._work, f"round {number}"
        teacher = before.stage
        sources = sources_of(work.labels.select(before.selected))
        scores = work.measure(teacher, name, trained_on=sources, teacher=True)
        reliability = self._fused(scores, teacher)
        at = unsearched_threshold(self.beyond, reliability, strict=work.config.strict)
        search, entries = work.search(reliability, at=at, init=teacher, note={"variant": name})
        stage = work.dir.stage_of_key(str(entries[search.best]["stage"]))
        keep = kept(reliability, search.best, strict=work.config.strict)
        facts = {
            "thresholds": {"+".join(self._sources): search.best},
            "search": search.to_dict(),
            "scores": scores_key(teacher.key, name),
            "teacher": teacher.teacher_folder.exists(),
        }
        needs = before.needs | {str(entry["stage"]) for entry in entries.values()}
        first = Variant(
            name, stage, keep.astype(np.float32), reliability, needs, before.needs, facts=facts
        )
        return [first, *self._of(first, f"{name}, ")]

    def _fused(self, scores: ScoreMatrix, stage: Stage) -> np.ndarray:
        """What selects in a round: the fused measure, with one model in place of all measurers."""
        reliability: np.ndarray = scores.scores[0]
        if self.beyond.measures:
            names = tuple(self._measurers)
            alike = ScoreMatrix.concat(replace(scores, names=(name,)) for name in names)
            stages = dict.fromkeys(names, stage)
            more, _ = self._work.fuse(alike, self.beyond.measures, stages, teacher=True)
            reliability = more[more.names[-1]]
        return reliability

    def _variant(
        self,
        name: str,
        stage: Stage,
        weights: np.ndarray,
        base: Variant,
        *,
        needs: frozenset[str] | None = None,
        agreed: Agreed | None = None,
        facts: Mapping[str, Any],
    ) -> Variant:
        self._work.note("variant", stage, variant=name, **facts)
        if needs is None:  # a warm start rests on what it starts from
            needs = base.needs if self._work.config.warm_start else base.measured
        weights = weights.astype(np.float32)
        return Variant(
            name,
            stage,
            weights,
            base.reliability,
            needs | {stage.key},
            base.measured,
            agreed,
            facts,
        )
