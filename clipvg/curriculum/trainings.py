"""Trainings of one run on subsets of its labels: kept under their keys, judged, and measuring."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from clipvg.curriculum.config import Search, SSAConfig
from clipvg.curriculum.measurements import Measurements, sources_of
from clipvg.curriculum.protocols import Fit, Learner, ModelStore
from clipvg.curriculum.run import Run, Stage
from clipvg.curriculum.threshold import ThresholdSearch, find_threshold
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.histogram import Distribution, kept
from clipvg.reliability.measurer import Measurer

Entry = dict[str, Any]


class Trainings(Measurements):
    """What SSA and MSA do with a learner; every method reads a finished stage or does it.

    Args:
        learner: trains and evaluates models.
        labels: N training labels, without truth and reliability.
        run: run directory.
        store: keeps models in the run.
        as_measurer: makes a trained model a measurer.
        config: options.
        progress: show a bar while labels are measured.
    """

    def __init__(
        self,
        learner: Learner,
        labels: LabelTable,
        *,
        run: Run,
        store: ModelStore,
        as_measurer: Callable[[Any], Measurer],
        config: SSAConfig,
        progress: bool = False,
    ) -> None:
        super().__init__(labels, run=run, store=store, as_measurer=as_measurer, progress=progress)
        self.learner, self.config = learner, config
        self.validation: LabelTable | None = None
        self.entries: list[Entry] = []
        self._is_prepared = False
        self._resumes = "out" in signature(learner.fit).parameters
        self._fingerprints: dict[bytes, str] = {}

    def train(
        self,
        subsets: Sequence[np.ndarray],
        *,
        search: Search = "separate",
        init: Stage | None = None,
        union: np.ndarray | None = None,
    ) -> list[Stage]:
        """Train on subsets of the labels what is not finished yet, and judge it.

        Args:
            subsets: bool (N,) each.
            search: "separate" or "together", see `SSAConfig`.
            init: stage whose model trainings start from where the run is warm-started.
            union: bool (N,), labels whose batches trainings together walk over; None is all.
        """
        init = init if self.config.warm_start else None
        among = None
        if search == "together" and self.config.halving:
            # Who is dropped depends on all of them: with others this is another training.
            among = sorted({self._fingerprint(keep) for keep in subsets})
        stages = [self.stage(keep, search, init, union, among) for keep in subsets]
        missing: dict[str, int] = {}
        for i, stage in enumerate(stages):
            if not stage.is_finished:
                missing.setdefault(stage.key, i)  # equal subsets are trained once
        if missing and among is not None:  # also those that were finished before a kill
            missing = {stage.key: i for i, stage in reversed(list(enumerate(stages)))}
        self.dir.workers.wait()  # all have looked before one writes
        if missing:
            self._prepare()
            model = None if init is None else self.store.load(init.model_folder)
            which = sorted(missing.values())
            if search == "together":
                self._train_together(stages, subsets, which, model, union)
            else:
                self._train_apart(stages, subsets, which, model)
        if self.validation is not None:
            for stage in stages:
                self.judge(stage)
        return stages

    def train_weighted(
        self, weights: np.ndarray, *, labels: LabelTable | None = None, init: Stage | None = None
    ) -> Stage:
        """Train on labels by weights what is not finished yet, and judge it.

        Candidates that train together walk the batches of all labels, and so does this training
        beside them; else labels of weight 0 are left out.

        Args:
            weights: float32 (N,) in [0, 1].
            labels: the N labels where some have another box; the training labels when None.
            init: as of `train`.
        """
        init = init if self.config.warm_start else None
        labels = self.labels if labels is None else labels
        walked = np.ones(len(weights), bool) if self.config.search == "together" else weights > 0
        table, weights = labels.select(walked), weights[walked]
        stage = self.dir.stage(
            subset=table.fingerprint(),
            weights=hashlib.sha256(weights.tobytes()).hexdigest(),
            init=None if init is None else init.key,
            seed=self.config.seed,
        )
        is_finished = stage.is_finished
        self.dir.workers.wait()  # all have looked before one writes
        if not is_finished:
            self._prepare()
            model = None if init is None else self.store.load(init.model_folder)
            self._train_one(stage, table, weights, model)
        self.judge(stage)
        return stage

    def stage(
        self,
        keep: np.ndarray,
        search: Search = "separate",
        init: Stage | None = None,
        union: np.ndarray | None = None,
        among: Sequence[str] | None = None,
    ) -> Stage:
        """Return the stage of a training on a subset; see `train`."""
        walked = None
        if search == "together":
            walked = self._fingerprint(np.ones(len(self.labels), bool) if union is None else union)
        halved = {} if among is None else {"among": among}
        return self.dir.stage(
            subset=self._fingerprint(keep),
            union=walked,
            init=None if init is None else init.key,
            seed=self.config.seed,
            **halved,
        )

    def judge(self, stage: Stage) -> float | None:
        """Return the performance of a stage's model on the validation labels."""
        is_judged = "score" in stage.read()
        self.dir.workers.wait()  # all have looked before one writes
        if not is_judged:
            assert self.validation is not None
            model = self.store.load(stage.model_folder)
            stage.add(score=self.learner.evaluate(model, self.validation))
        score: float | None = stage.read()["score"]
        return score

    def search(
        self,
        reliability: np.ndarray,
        *,
        at: float | None = None,
        given: np.ndarray | None = None,
        init: Stage | None = None,
        union: np.ndarray | None = None,
        note: Mapping[str, Any] | None = None,
    ) -> tuple[ThresholdSearch, dict[float, Entry]]:
        """Search the threshold whose labels, joined with those given, train the best model.

        Args:
            reliability: float32 (N,), NaN for labels that are not to be selected.
            at: take this threshold without a search.
            given: bool (N,), labels of every candidate; none when None.
            init: see `train`.
            union: see `train`.
            note: what to record of every candidate.

        Returns:
            The search, and what was recorded of each candidate by its threshold.
        """
        config, distribution = self.config, Distribution(reliability)
        given = np.zeros(len(self.labels), bool) if given is None else given
        entries: dict[float, Entry] = {}

        def score_many(thresholds: Sequence[float]) -> list[float]:
            subsets = [given | kept(reliability, h, strict=config.strict) for h in thresholds]
            stages = self.train(subsets, search=config.search, init=init, union=union)
            for h, stage, keep in zip(thresholds, stages, subsets, strict=True):
                chosen = Distribution(reliability[keep & ~given]).to_dict()
                entries[h] = self.note(
                    "candidate", stage, threshold=h, **(note or {}), reliability=chosen
                )
            return [_number(stage.read()["score"]) for stage in stages]

        low, start, high = (config.low, config.start, config.high) if at is None else (at, at, at)

        def count(h: float) -> int:
            return int(given.sum()) + distribution.count_above(h, strict=config.strict)

        if at is not None and count(at) < config.min_kept:
            raise InputError(
                f"the calibrated threshold {at:g} keeps {count(at)} label(s), fewer than "
                f"{config.min_kept}; lower the probability (calibrated), or search a threshold."
            )
        search = find_threshold(
            score_many,
            start,
            config.step,
            low=low,
            high=high,
            count=count,
            min_kept=config.min_kept,
        )
        if at is not None:
            search = replace(search, reason="given, not searched")
        return search, entries

    def note(self, event: str, stage: Stage, *, reliability: Any = None, **facts: Any) -> Entry:
        """Record a stage in the metrics and for the summary; return what the summary gets."""
        facts = {"threshold": None, **facts, "stage": stage.key, **stage.read()}
        self.dir.record(event=event, **facts)
        entry = {"name": event, **facts}
        if reliability is not None:
            entry["reliability"] = reliability
        self.entries.append(entry)
        return entry

    def _fingerprint(self, keep: np.ndarray) -> str:
        mask = keep.tobytes()
        if mask not in self._fingerprints:
            self._fingerprints[mask] = self._subset(keep).fingerprint()
        return self._fingerprints[mask]

    def _subset(self, keep: np.ndarray) -> LabelTable:
        return self.labels if keep.all() else self.labels.select(keep)

    def _prepare(self) -> None:
        if not self._is_prepared:
            getattr(self.learner, "prepare", lambda labels: None)(self.labels)
            self._is_prepared = True

    def _train_together(
        self,
        stages: Sequence[Stage],
        subsets: Sequence[np.ndarray],
        which: list[int],
        init: Any,
        union: np.ndarray | None,
    ) -> None:
        started = time.monotonic()
        walked = np.ones(len(self.labels), bool) if union is None else union
        keep = np.stack([subsets[i][walked] for i in which])
        options: dict[str, Any] = {"init": init, "seed": self.config.seed}
        if "outs" in signature(self.learner.fit_many).parameters:
            options["outs"] = [stages[i].training_folder for i in which]
        if self.config.halving and self.validation is not None:
            validation = self.validation
            options["judge"] = lambda model: self.learner.evaluate(model, validation)
        fits = self.learner.fit_many(self._subset(walked), keep, **options)
        seconds = (time.monotonic() - started) / len(which)
        for i, fit in zip(which, fits, strict=True):
            self._keep(stages[i], fit, self._subset(subsets[i]), seconds)

    def _train_apart(
        self,
        stages: Sequence[Stage],
        subsets: Sequence[np.ndarray],
        which: list[int],
        init: Any,
    ) -> None:
        for i in which:
            self._train_one(stages[i], self._subset(subsets[i]), None, init)

    def _train_one(
        self, stage: Stage, labels: LabelTable, weights: np.ndarray | None, init: Any
    ) -> None:
        started = time.monotonic()
        place: dict[str, Any] = {"out": stage.training_folder} if self._resumes else {}
        fit = self.learner.fit(labels, weights=weights, init=init, seed=self.config.seed, **place)
        kept_ = labels if weights is None else labels.select(weights > 0)
        self._keep(stage, fit, kept_, time.monotonic() - started)

    def _keep(self, stage: Stage, fit: Fit, labels: LabelTable, seconds: float) -> None:
        record: dict[str, Any] = {"kept": len(labels), "seconds": round(seconds, 3)}
        if self.validation is not None:
            record["score"] = self.learner.evaluate(fit.model, self.validation)
        trained_on = sources_of(labels)

        def saving(model: Any) -> Callable[[Path], None]:
            return lambda folder: self.store.save(model, folder, trained_on=trained_on)

        teacher = getattr(fit, "teacher", None)
        stage.finish(
            record,
            saving(fit.model),
            metrics=getattr(fit, "metrics", ()),
            save_teacher=None if teacher is None else saving(teacher),
        )


def _number(score: float | None) -> float:
    return float("nan") if score is None else float(score)
