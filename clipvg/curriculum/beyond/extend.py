"""Make the variants of an SSA or MSA result that `Beyond` asks for, and choose the best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace

import numpy as np

from clipvg.curriculum.beyond.calibrate import calibrated_threshold, soft_weights
from clipvg.curriculum.beyond.config import Beyond
from clipvg.curriculum.beyond.correction import Agreed, agreed_boxes
from clipvg.curriculum.beyond.facts import BeyondFacts, VariantDetails
from clipvg.curriculum.beyond.fusion import check_fusion, fuse_stages
from clipvg.curriculum.beyond.sources import leave_out
from clipvg.curriculum.candidates import search_threshold
from clipvg.curriculum.measurers import Measurers
from clipvg.curriculum.measuring import measure_labels, predict_boxes
from clipvg.curriculum.outcome import Plain, Variant, best_of
from clipvg.curriculum.trainings import Trainings
from clipvg.errors import InputError
from clipvg.reliability.histogram import kept
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.runs.stage import Stage

FUSED, CALIBRATED, FEWER = "fused", "calibrated", "fewer sources"


def check_beyond(
    beyond: Beyond, measurers: Sequence[str], *, has_models: bool, has_voter: bool = True
) -> None:
    """Refuse options that could not be carried out, before anything is trained.

    `measurers` are the names of what scores the labels: trained models, or given scores. A voter is
    a model besides the one to improve.
    """
    check_fusion(beyond.specs, measurers, has_models=has_models)
    if beyond.correct is not None and not has_voter:
        raise InputError(
            "labels are corrected where two models agree, and with scores given and no baseline "
            "there is one; leave correct out, or train the baseline."
        )


def first_variant(
    work: Trainings,
    measurers: Measurers,
    beyond: Beyond,
    decide: Callable[[ScoreMatrix, str | None], Variant],
) -> Variant:
    """Make the first variant, by the measurers or, with `Beyond.alone`, by the last measure."""
    if not beyond.alone:
        return decide(measurers.scores, None)
    return decide(joined(work, measurers, beyond)[1], FUSED)


def joined(work: Trainings, measurers: Measurers, beyond: Beyond) -> tuple[Measurers, ScoreMatrix]:
    """Return the measurers joined with the further measures, and the scores by the last one."""
    more, file = fuse_stages(work, measurers.scores, beyond.specs, measurers.stages)
    return measurers.joined(more, file), more.select(more.names[-1:])


class Variants:
    """The plain result of a run, and the variants of it that `Beyond` asks for."""

    def __init__(self, plain: Plain, beyond: Beyond) -> None:
        self.plain = plain
        self.work = plain.work
        self.beyond = beyond
        self.measurers = plain.measurers
        self.found = [plain.decided]
        self.skipped: dict[str, str] = {}
        self.stopped: str | None = None
        if beyond:
            names = self.work.labels.sources()
            if plain.method == "ssa":  # all are one source
                names = [plain.decided.steps[0].source] * len(names)
            sources, self.group = np.unique(np.array(names), return_inverse=True)
            self.sources: list[str] = sources.tolist()
            self._make()

    @property
    def best(self) -> Variant:
        """The best variant so far on the validation labels, of equals the first."""
        return best_of(self.found)

    @property
    def corrections(self) -> Agreed | None:
        """Corrected labels of the best variant or, if it has none, of the best that has some."""
        with_some = [variant for variant in self.found if variant.agreed is not None]
        if self.best.agreed is not None or not with_some:
            return self.best.agreed
        return best_of(with_some).agreed

    def _make(self) -> None:
        """Make all variants: first of the better of plain and fused, then round by round."""
        if self.beyond.alone:
            self.measurers, _ = joined(self.work, self.measurers, self.beyond)
        elif self.beyond.measures:
            self.found.append(self._fused())
        self.found += self._of(self.best)
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

    def facts(self) -> BeyondFacts | None:
        """Return the summary of the variants; None if none were requested."""
        if not self.beyond:
            return None
        return BeyondFacts(
            options=asdict(self.beyond),
            chosen=self.best.name,
            variants=tuple(each.facts(self.found[0], self.work.noted) for each in self.found),
            skipped=self.skipped,
            stopped=self.stopped,
        )

    def _fused(self) -> Variant:
        """Decide again, with the last of the further measures beside the measurers."""
        scores = self.measurers.scores
        self.measurers, last = joined(self.work, self.measurers, self.beyond)
        return self.plain.decide(ScoreMatrix.concat([scores, last]), FUSED)

    def _of(self, base: Variant, prefix: str = "") -> list[Variant]:
        """Return the variants that use the reliability of another one."""
        beyond, made = self.beyond, []
        if beyond.calibrated is not None and not beyond.skip_search:
            made.append(self._calibrated(base, prefix + CALIBRATED, beyond.calibrated))
        if beyond.soft:
            made.append(self._soft(base, prefix + "soft"))
        if beyond.correct is not None:
            made.append(self._corrected(base, prefix + "corrected", beyond.correct))
        if beyond.drop_sources:
            made.append(self._fewer(base, prefix + FEWER))
        return [variant for variant in made if variant is not None]

    def _unjudged(self, base: Variant) -> np.ndarray:
        """Return (N,) bool: given labels that nothing was decided on now; they count in full."""
        unknown = np.isnan(base.reliability)
        return unknown & (False if self.plain.given is None else self.plain.given)

    def _soft(self, base: Variant, name: str) -> Variant:
        weights = soft_weights(base.reliability, self.group)
        weights[self._unjudged(base)] = 1
        stage = self.work.train_weighted(weights, init=base.stage)
        details = VariantDetails(weight=round(float(weights.sum(dtype=np.float64)), 3))
        return self._changed(base, name, stage, weights, details)

    def _calibrated(self, base: Variant, name: str, least: float) -> Variant | None:
        r, strict = base.reliability, self.work.config.strict
        thresholds, keep = {}, self._unjudged(base)
        for number, source in enumerate(self.sources):
            rows = self.group == number
            thresholds[source] = calibrated_threshold(r[rows], least, strict=strict)
            keep |= rows & kept(r, thresholds[source], strict=strict)
        if keep.sum() < self.work.config.least(len(keep)):
            self.skipped[name] = f"keeps {keep.sum()} label(s)"
            return None
        stage = self.work.train([keep], how=self.work.config.candidates, init=base.stage)[0]
        return self._changed(base, name, stage, keep, VariantDetails(thresholds=thresholds))

    def _corrected(self, base: Variant, name: str, agreement: float) -> Variant | None:
        work = self.work
        stages = {stage.key: stage for stage in (*self._voters(), base.stage)}
        if len(stages) < 2:  # the threshold keeps all labels: the measurer is the result
            self.skipped[name] = "there is one model, which has no other to agree with"
            return None
        boxes = np.stack([predict_boxes(work, stage) for stage in stages.values()])
        agreed = agreed_boxes(boxes, work.labels.boxes(), agreement).select(~base.selected)
        if not len(agreed):
            self.skipped[name] = "the models agree about no label that was left out"
            return None
        weights = base.weights.copy()
        weights[agreed.rows] = 1
        stage = work.train_weighted(weights, labels=agreed.apply(work.labels), init=base.stage)
        details = VariantDetails(corrected=len(agreed), voters=len(stages))
        variant = self._changed(base, name, stage, weights, details)
        return replace(variant, needs=base.needs | {*stages, stage.key}, agreed=agreed)

    def _fewer(self, base: Variant, name: str) -> Variant | None:
        if len(self.sources) < 2:
            self.skipped[name] = "there is one source (SSA takes all labels as one)"
            return None
        rows = {source: self.group == number for number, source in enumerate(self.sources)}
        found = leave_out(self.work, base, rows)
        if not found.left_out:
            self.skipped[name] = "no model is better without one of the sources"
            return None
        details = VariantDetails(left_out=found.left_out)
        variant = self._changed(base, name, found.stage, found.keep, details)
        return replace(variant, needs=base.needs | found.trainings)

    def _voters(self) -> Iterable[Stage]:
        """Return the models that vote on corrections, besides that of the variant to improve."""
        base = self.plain.base
        if self.measurers.stages or base is None:
            return self.measurers.stages.values()
        return [self.work.run.stage_of_key(base.stage)]

    def _round(self, number: int, before: Variant) -> list[Variant]:
        """Measure the labels with the best model so far, and select them again."""
        work, name = self.work, f"round {number}"
        teacher = before.stage
        boxes = None if before.agreed is None else before.agreed.apply(work.labels)
        measured = measure_labels(work, teacher, name, before.weights, labels=boxes, teacher=True)
        reliability = self._selecting(measured.scores, teacher)
        found = search_threshold(work, reliability, init=teacher, variant=name)
        threshold = found.search.best
        measured_by = before.needs | measured.folds
        first = replace(
            before,
            name=name,
            stage=found.best,
            weights=found.keep.astype(np.float32),
            reliability=np.where(work.split.labelled, np.float32(np.nan), reliability),
            needs=measured_by | {training.stage for training in found.candidates},
            measured=measured_by,
            details=VariantDetails(
                thresholds={"+".join(self.sources): threshold},
                search=found.search,
                scores=measured.file,
                teacher=teacher.teacher_folder.exists(),
            ),
            agreed=None,
        )
        return [first, *self._of(first, f"{name}, ")]

    def _selecting(self, scores: ScoreMatrix, stage: Stage) -> np.ndarray:
        """Return the reliability that selects in a round.

        It is the model's own or, with measures, the last of them with the model for all measurers.
        """
        if not self.beyond.measures:
            return scores[scores.names[0]]
        names = self.plain.measurers.scores.names
        alike = ScoreMatrix.concat(replace(scores, names=(name,)) for name in names)
        stages = dict.fromkeys(names, stage)
        more, _ = fuse_stages(self.work, alike, self.beyond.specs, stages, teacher=True)
        return more[more.names[-1]]

    def _changed(
        self, base: Variant, name: str, stage: Stage, weights: np.ndarray, details: VariantDetails
    ) -> Variant:
        """Record and return a variant that uses the reliability of another one."""
        self.work.note("variant", stage, variant=name, details=details.to_dict())
        # With a warm start it depends on the training that it starts from.
        needs = base.needs if self.work.config.warm_start else base.measured
        return replace(
            base,
            name=name,
            stage=stage,
            weights=weights.astype(np.float32),
            needs=needs | {stage.key},
            details=details,
            agreed=None,
        )
