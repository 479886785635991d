"""Trainings of a run on subsets of its labels, kept under their keys and judged; the search."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clipvg.curriculum.candidates import Searched, TrainedCandidates
from clipvg.curriculum.config import Search, SSAConfig
from clipvg.curriculum.measurements import sources_of
from clipvg.curriculum.protocols import Fit, Learner
from clipvg.curriculum.summary import Training
from clipvg.curriculum.threshold import SearchStrategy, find_threshold
from clipvg.labels import LabelTable
from clipvg.runs.run import Run
from clipvg.runs.stage import Stage
from clipvg.runtime.files import Json


class Trainings:
    """Trains on subsets of labels, judges and searches; what is finished is read from the run.

    Args:
        learner: trains and evaluates models.
        labels: N training labels, without truth and reliability.
        validation: labels that trainings are judged on; None judges none.
        run: run directory.
        config: options.
        strategy: how a threshold is found.
    """

    def __init__(
        self,
        learner: Learner[Any],
        labels: LabelTable,
        validation: LabelTable | None,
        *,
        run: Run,
        config: SSAConfig,
        strategy: SearchStrategy = find_threshold,
    ) -> None:
        self.learner = learner
        self.labels = labels
        self.validation = validation
        self.run = run
        self.config = config
        self.strategy = strategy
        self.noted: set[str] = set()  # keys of the stages that were recorded
        self._is_prepared = False
        self._fingerprints: dict[bytes, str] = {}

    def judged_on(self, validation: LabelTable) -> Trainings:
        """Return trainings of the same run that are judged on validation labels."""
        return Trainings(
            self.learner,
            self.labels,
            validation,
            run=self.run,
            config=self.config,
            strategy=self.strategy,
        )

    def train_all(self) -> Stage:
        """Train on all labels."""
        return self.train([np.ones(len(self.labels), dtype=bool)])[0]

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
        union = np.ones(len(self.labels), bool) if union is None else union
        among: list[str] | None = None
        if search == "together" and self.config.halving:
            # Who is dropped depends on all of them: with others this is another training.
            among = sorted({self._fingerprint(keep) for keep in subsets})
        stages = [
            self.run.stage(
                subset=self._fingerprint(keep),
                union=self._fingerprint(union) if search == "together" else None,
                init=None if init is None else init.key,
                seed=self.config.seed,
                **({} if among is None else {"among": among}),
            )
            for keep in subsets
        ]
        # Equal subsets are trained once.
        distinct = {stage.key: (stage, keep) for stage, keep in zip(stages, subsets, strict=True)}
        missing = [each for each in distinct.values() if not each[0].is_finished]
        if missing and among is not None:  # also those that were finished before a kill
            missing = [*distinct.values()]
        self.run.workers.wait()  # all have looked before one writes
        if missing:
            model = self._start(init)
            if search == "together":
                self._train_together(missing, model, union)
            else:
                for stage, keep in missing:
                    self._train_one(stage, self._subset(keep), None, model)
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
        stage = self.run.stage(
            subset=table.fingerprint(),
            weights=hashlib.sha256(weights.tobytes()).hexdigest(),
            init=None if init is None else init.key,
            seed=self.config.seed,
        )
        if not self.run.workers.see(lambda: stage.is_finished):
            self._train_one(stage, table, weights, self._start(init))
        self.judge(stage)
        return stage

    def judge(self, stage: Stage) -> None:
        """Score a stage's model on the validation labels, unless its record has the score."""
        if not self.run.workers.see(lambda: "score" in stage.read()):
            assert self.validation is not None
            model = self.learner.load(stage.model_folder)
            stage.add(score=self.learner.evaluate(model, self.validation))

    def search(
        self,
        reliability: np.ndarray,
        *,
        given: np.ndarray | None = None,
        init: Stage | None = None,
        union: np.ndarray | None = None,
        **facts: Any,
    ) -> Searched:
        """Search the threshold whose labels, joined with those given, train the best model.

        Args:
            reliability: float32 (N,), NaN for labels that are not to be selected.
            given: bool (N,), labels of every candidate; none when None.
            init: see `train`.
            union: see `train`.
            facts: recorded with every candidate, see `Training`.
        """
        config = self.config
        candidates = TrainedCandidates(
            reliability,
            config.strict,
            np.zeros(len(self.labels), bool) if given is None else given,
            train=partial(self.train, search=config.search, init=init, union=union),
            note=partial(self.note, "candidate", **facts),
        )
        search = self.strategy(
            candidates,
            config.start,
            config.step,
            low=config.low,
            high=config.high,
            count=candidates.count,
            min_kept=config.min_kept,
        )
        told = {key: value for key, value in facts.items() if value is not None}
        self.run.record(event="chosen", **told, threshold=search.best, score=search.score)
        return candidates.searched(search)

    def note(
        self, name: str, stage: Stage, details: Mapping[str, object] | None = None, **facts: Any
    ) -> Training:
        """Record a training in the run's metrics, with details, and return it for the summary.

        Args:
            name: what it was for.
            stage: of the training.
            details: for the metrics alone.
            facts: see `Training`.
        """
        facts = {"threshold": None, **facts, "stage": stage.key, **stage.read()}
        training = Training(name=name, **facts)
        line = training.to_dict()
        line.pop("reliability", None)
        self.run.record(event=line.pop("name"), **(details or {}), **line)
        self.noted.add(stage.key)
        return training

    def _fingerprint(self, keep: np.ndarray) -> str:
        mask = keep.tobytes()
        if mask not in self._fingerprints:
            self._fingerprints[mask] = self._subset(keep).fingerprint()
        return self._fingerprints[mask]

    def _subset(self, keep: np.ndarray) -> LabelTable:
        return self.labels if keep.all() else self.labels.select(keep)

    def _start(self, init: Stage | None) -> Any:
        """Let the learner prepare, and return the model that trainings start from."""
        if not self._is_prepared:
            self.learner.prepare(self.labels)
            self._is_prepared = True
        return None if init is None else self.learner.load(init.model_folder)

    def _train_together(
        self, missing: Sequence[tuple[Stage, np.ndarray]], init: Any, union: np.ndarray
    ) -> None:
        started = time.monotonic()
        judge: Callable[[Any], float] | None = None
        if self.config.halving and self.validation is not None:
            validation = self.validation

            def judge(model: Any) -> float:
                return self.learner.evaluate(model, validation)

        fits = self.learner.fit_many(
            self._subset(union),
            np.stack([keep[union] for _, keep in missing]),
            init=init,
            seed=self.config.seed,
            outs=[stage.training_folder for stage, _ in missing],
            judge=judge,
        )
        seconds = (time.monotonic() - started) / len(missing)
        for (stage, keep), fit in zip(missing, fits, strict=True):
            self._keep(stage, fit, self._subset(keep), seconds)

    def _train_one(
        self, stage: Stage, labels: LabelTable, weights: np.ndarray | None, init: Any
    ) -> None:
        started = time.monotonic()
        fit = self.learner.fit(
            labels, weights=weights, init=init, seed=self.config.seed, out=stage.training_folder
        )
        trained_on = labels if weights is None else labels.select(weights > 0)
        self._keep(stage, fit, trained_on, time.monotonic() - started)

    def _keep(self, stage: Stage, fit: Fit[Any], labels: LabelTable, seconds: float) -> None:
        record: Json = {"kept": len(labels), "seconds": round(seconds, 3)}
        if self.validation is not None:
            record["score"] = self.learner.evaluate(fit.model, self.validation)
        trained_on = sources_of(labels)

        def saving(model: Any) -> Callable[[Path], None]:
            return lambda folder: self.learner.save(model, folder, trained_on=trained_on)

        stage.finish(
            record,
            saving(fit.model),
            metrics=fit.metrics,
            save_teacher=None if fit.teacher is None else saving(fit.teacher),
        )
