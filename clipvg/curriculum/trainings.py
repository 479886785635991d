"""Train models on subsets of a run's labels, keep them as stages and judge them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clipvg.curriculum.config import HowTrained, SSAConfig
from clipvg.curriculum.protocols import Fit, Learner
from clipvg.curriculum.split import Split, sources_of
from clipvg.curriculum.summary import Training
from clipvg.curriculum.threshold import SearchStrategy, find_threshold
from clipvg.labels import LabelTable
from clipvg.runs.run import Run
from clipvg.runs.stage import Stage
from clipvg.runtime.files import Json
from clipvg.runtime.progress import task


@dataclass(eq=False)
class Trainings:
    """Trains models on subsets of labels and judges them; finished ones are read from the run."""

    learner: Learner[Any]  # trains and evaluates models
    split: Split  # N labels to train on, and those that trainings are judged on
    run: Run  # run directory
    config: SSAConfig  # options
    strategy: SearchStrategy = find_threshold  # how a threshold is found
    progress: bool = False  # show a bar while labels are measured
    judges: bool = True  # whether trainings are judged
    share: float = 1  # share of its steps that each training takes, see `Learner.shorter`
    # what was recorded of each training, by the key of its stage
    noted: dict[str, Training] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._trainer = self.learner
        self._is_prepared = False
        self._fingerprints: dict[bytes, str] = {}

    @property
    def labels(self) -> LabelTable:
        """The N training labels, without truth and reliability."""
        return self.split.training

    def train_all(self) -> Stage:
        """Train on all labels."""
        return self.train([np.ones(len(self.labels), dtype=bool)], names=["all labels"])[0]

    def train_first(self) -> Stage:
        """Train on the annotated labels if there are some beside pseudo-labels, else on all."""
        labelled = self.split.labelled
        if not labelled.any():
            return self.train_all()
        return self.train([labelled], names=["the annotated labels"])[0]

    def train(
        self,
        subsets: Sequence[np.ndarray],
        *,
        how: HowTrained = "separate",
        init: Stage | None = None,
        union: np.ndarray | None = None,
        names: Sequence[str] = (),
    ) -> list[Stage]:
        """Train and judge a model on each subset, (N,) bool, of the labels, unless it is finished.

        With a warm start, trainings start from the model of `init`. Those "together" walk over the
        batches of the labels in `union`, (N,) bool, all when None. Progress shows `names`.
        """
        init = init if self.config.warm_start else None
        union = np.ones(len(self.labels), bool) if union is None else union
        facts = self._facts(init) | {"union": None}
        if how == "together":
            facts["union"] = self._fingerprint(union)
            if self.config.halving:
                # Which are dropped depends on all of them: with others it is another training.
                facts["among"] = sorted({self._fingerprint(keep) for keep in subsets})
        stages = [self.run.stage(subset=self._fingerprint(keep), **facts) for keep in subsets]
        # Equal subsets are trained once.
        distinct = {stage.key: (stage, keep) for stage, keep in zip(stages, subsets, strict=True)}
        missing = [each for each in distinct.values() if not each[0].is_finished]
        if missing and "among" in facts:  # including those finished before a kill
            missing = [*distinct.values()]
        self.run.workers.wait()  # all processes have looked before one writes
        if missing and how == "together":
            with task(", ".join(names)):
                self._train_together(missing, self._start(init), union)
        elif missing:
            model = self._start(init)
            named = dict(zip([stage.key for stage in stages], names, strict=False))
            for stage, keep in missing:
                with task(named.get(stage.key, f"training on {int(keep.sum()):,} labels")):
                    self._train_one(stage, self._subset(keep), None, model)
        if self.judges:
            for stage in stages:
                self.judge(stage)
        return stages

    def train_weighted(
        self, weights: np.ndarray, *, labels: LabelTable | None = None, init: Stage | None = None
    ) -> Stage:
        """Train and judge a model on labels with weights (N,) in [0, 1], unless it is finished.

        If candidates train together, and so walk over the batches of all labels, this training does
        too; else labels of weight 0 are left out. `labels` are given if some have another box.
        """
        init = init if self.config.warm_start else None
        labels = self.labels if labels is None else labels
        walked = (
            np.ones(len(weights), bool) if self.config.candidates == "together" else weights > 0
        )
        table, weights = labels.select(walked), weights[walked]
        digest = hashlib.sha256(weights.tobytes()).hexdigest()
        stage = self.run.stage(subset=table.fingerprint(), weights=digest, **self._facts(init))
        if not self.run.workers.see(lambda: stage.is_finished):
            self._train_one(stage, table, weights, self._start(init))
        self.judge(stage)
        return stage

    def judge(self, stage: Stage) -> None:
        """Score a stage's model on the validation labels, unless its record has the score."""
        if not self.run.workers.see(lambda: "score" in stage.read()):
            stage.add(score=self._score(self.learner.load(stage.model_folder)))

    def note(
        self, name: str, stage: Stage, details: Mapping[str, object] | None = None, **facts: Any
    ) -> Training:
        """Record a training in the run's metrics, with details, and return it for the summary."""
        facts = {"threshold": None, "score": None, **facts, "stage": stage.key, **stage.read()}
        training = Training(name=name, **facts)
        line = training.to_dict()
        line.pop("reliability", None)
        self.run.record(event=line.pop("name"), **(details or {}), **line)
        self.noted.setdefault(stage.key, training)
        return training

    def _facts(self, init: Stage | None) -> Json:
        """Return what determines a training besides its labels."""
        shorter = {} if self.share == 1 else {"share": self.share}
        return {"init": init and init.key, "seed": self.config.seed, **shorter}

    def _start(self, init: Stage | None) -> Any:
        """Let the learner prepare, and return the model that trainings start from."""
        if not self._is_prepared:
            self.learner.prepare(self.labels)
            self._trainer = self.learner if self.share == 1 else self.learner.shorter(self.share)
            self._is_prepared = True
        return None if init is None else self.learner.load(init.model_folder)

    def _score(self, model: Any) -> float:
        return self.learner.evaluate(model, self.split.validation)

    def _fingerprint(self, keep: np.ndarray) -> str:
        mask = keep.tobytes()
        if mask not in self._fingerprints:
            self._fingerprints[mask] = self._subset(keep).fingerprint()
        return self._fingerprints[mask]

    def _subset(self, keep: np.ndarray) -> LabelTable:
        return self.labels if keep.all() else self.labels.select(keep)

    def _train_together(
        self, missing: Sequence[tuple[Stage, np.ndarray]], init: Any, union: np.ndarray
    ) -> None:
        started = time.monotonic()
        fits = self._trainer.fit_many(
            self._subset(union),
            np.stack([keep[union] for _, keep in missing]),
            init=init,
            seed=self.config.seed,
            outs=[stage.training_folder for stage, _ in missing],
            judge=self._score if self.config.halving and self.judges else None,
        )
        seconds = (time.monotonic() - started) / len(missing)
        for (stage, keep), fit in zip(missing, fits, strict=True):
            self._keep(stage, fit, self._subset(keep), seconds)

    def _train_one(
        self, stage: Stage, labels: LabelTable, weights: np.ndarray | None, init: Any
    ) -> None:
        started = time.monotonic()
        fit = self._trainer.fit(
            labels, weights=weights, init=init, seed=self.config.seed, out=stage.training_folder
        )
        trained_on = labels if weights is None else labels.select(weights > 0)
        self._keep(stage, fit, trained_on, time.monotonic() - started)

    def _keep(self, stage: Stage, fit: Fit[Any], labels: LabelTable, seconds: float) -> None:
        record: Json = {"kept": len(labels), "seconds": round(seconds, 3)}
        if fit.steps is not None:
            record["steps"] = fit.steps
        if self.judges:
            record["score"] = self._score(fit.model)
        trained_on = sources_of(labels)

        def saving(model: Any) -> Callable[[Path], None]:
            return lambda folder: self.learner.save(model, folder, trained_on=trained_on)

        stage.finish(
            record,
            saving(fit.model),
            metrics=fit.metrics,
            save_teacher=None if fit.teacher is None else saving(fit.teacher),
        )
