"""SSA: single-source self-paced adapting, on any learner and any measurer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from inspect import signature
from typing import Any

import numpy as np

from clipvg.curriculum.config import Search, SSAConfig
from clipvg.curriculum.holdout import hold_out
from clipvg.curriculum.protocols import Fit, Learner, ModelStore
from clipvg.curriculum.run import Run, Stage
from clipvg.curriculum.threshold import ThresholdSearch, find_threshold
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.histogram import Distribution, kept
from clipvg.reliability.matrix import COLUMN, ScoreMatrix
from clipvg.reliability.measurer import Context, Measurer
from clipvg.reliability.score import measure

_ALL = "measurer"


@dataclass(frozen=True)
class SSAResult:
    """Result of `ssa`.

    Attributes:
        search: the threshold search on the validation labels.
        scores: reliability of the training labels by the measurer ("measurer") and by the adapted
            model ("adapted").
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
    progress: bool = False,
    notes: Mapping[str, Any] | None = None,
) -> SSAResult:
    """Train on all labels, measure reliability, find the threshold, keep the best model.

    1. A model is trained on all labels: the measurer, whose performance is "no curriculum".
    2. It gives every label its reliability r.
    3. `find_threshold` walks over h; each candidate is trained on the labels with r >= h and
       judged on the validation labels.
    4. The winner becomes the run's model and measures the labels again.

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
        progress: show a bar while labels are measured.
        notes: plain values to add to the summary.

    Returns:
        The search, the scores and the summary; the winner's weights are in ``run.model_folder``.

    Raises:
        InputError: no threshold keeps enough labels, or there are no labels.
    """
    job = _SSA(learner, labels, validation, run, store, as_measurer, config or SSAConfig())
    job.progress, job.notes = progress, dict(notes or {})
    return job.run()


class _SSA:
    """One SSA; every method either reads a finished stage or does it."""

    def __init__(
        self,
        learner: Learner,
        labels: LabelTable,
        validation: LabelTable | None,
        run: Run,
        store: ModelStore,
        as_measurer: Callable[[Any], Measurer],
        config: SSAConfig,
    ) -> None:
        self.learner, self.dir, self.store = learner, run, store
        self.as_measurer, self.config = as_measurer, config
        # Nothing below sees truth or reliability given by others.
        labels = _blind(labels)
        self.is_held_out = validation is None
        if validation is None:
            labels, validation = hold_out(labels, config.holdout, seed=config.seed)
        if not len(labels) or not len(validation):
            raise InputError("there are no labels to train or to validate on; pass some.")
        self.labels, self.validation = labels, _blind(validation)
        self.stages: dict[float | None, dict[str, Any]] = {}
        self.is_prepared = False
        self.progress, self.notes = False, dict[str, Any]()
        self.resumes = "out" in signature(learner.fit).parameters

    def run(self) -> SSAResult:
        everything = np.ones(len(self.labels), dtype=bool)
        base = self._train_all([everything], "separate", None)[0]
        record = self._note(_ALL, None, base, everything)
        scores = self._measure(base, _ALL)
        reliability = scores[_ALL]
        record["reliability"] = Distribution(reliability).to_dict()
        search = self._search(reliability, base)
        winner = self._stage_of(kept(reliability, search.best, strict=self.config.strict), base)
        after = self._measure(winner, "adapted")
        both = ScoreMatrix(
            (_ALL, "adapted"),
            np.concatenate([scores.scores, after.scores]),
            self.labels.sources(),
            scores.trained_on + after.trained_on,
            {**scores.reasons, **after.reasons},
        )
        summary = self._summary(search, base, winner, both)
        self.dir.record(event="chosen", threshold=search.best, score=search.score)
        self.dir.finish(summary, winner.model_folder)
        return SSAResult(search, both, summary)

    def _search(self, reliability: np.ndarray, base: Stage) -> ThresholdSearch:
        config, distribution = self.config, Distribution(reliability)

        def score_many(thresholds: Sequence[float]) -> list[float]:
            subsets = [kept(reliability, h, strict=config.strict) for h in thresholds]
            stages = self._train_all(subsets, config.search, base)
            for h, stage, keep in zip(thresholds, stages, subsets, strict=True):
                record = self._note("candidate", h, stage, keep)
                record["reliability"] = Distribution(reliability[keep]).to_dict()
            return [float(stage.read()["score"]) for stage in stages]

        return find_threshold(
            score_many,
            config.start,
            config.step,
            low=config.low,
            high=config.high,
            count=lambda h: distribution.count_above(h, strict=config.strict),
            min_kept=config.min_kept,
        )

    def _stage_of(
        self, keep: np.ndarray, base: Stage | None, search: Search | None = None
    ) -> Stage:
        subset = self.labels.select(keep)
        search = search or self.config.search
        init = base.key if base is not None and self.config.warm_start else None
        union = self.labels.fingerprint() if search == "together" else None
        return self.dir.stage(
            subset=subset.fingerprint(), union=union, init=init, seed=self.config.seed
        )

    def _train_all(
        self, subsets: list[np.ndarray], search: Search, base: Stage | None
    ) -> list[Stage]:
        """Train what is not finished yet and return the stages of all subsets."""
        stages = [self._stage_of(keep, base, search) for keep in subsets]
        missing = [i for i, stage in enumerate(stages) if not stage.is_finished]
        self.dir.workers.wait()  # all have looked before one writes
        if not missing:
            return stages
        if not self.is_prepared:
            getattr(self.learner, "prepare", lambda labels: None)(self.labels)
            self.is_prepared = True
        init = None
        if base is not None and self.config.warm_start:
            init = self.store.load(base.model_folder)
        seed = self.config.seed
        if search == "together":
            started = time.monotonic()
            keep = np.stack([subsets[i] for i in missing])
            fits = self.learner.fit_many(self.labels, keep, init=init, seed=seed)
            seconds = (time.monotonic() - started) / len(missing)
            for i, fit in zip(missing, fits, strict=True):
                self._keep(stages[i], fit, subsets[i], seconds)
            return stages
        for i in missing:
            started = time.monotonic()
            place: dict[str, Any] = {"out": stages[i].training_folder} if self.resumes else {}
            fit = self.learner.fit(self.labels.select(subsets[i]), init=init, seed=seed, **place)
            self._keep(stages[i], fit, subsets[i], time.monotonic() - started)
        return stages

    def _keep(self, stage: Stage, fit: Fit, keep: np.ndarray, seconds: float) -> None:
        record = {
            "score": self.learner.evaluate(fit.model, self.validation),
            "kept": int(keep.sum()),
            "seconds": round(seconds, 3),
        }
        stage.finish(
            record,
            lambda folder: self.store.save(fit.model, folder),
            metrics=getattr(fit, "metrics", ()),
        )

    def _measure(self, stage: Stage, name: str) -> ScoreMatrix:
        """Return the reliability of all training labels by a stage's model."""
        path = self.dir.scores_path(f"{stage.key}-{name}")
        is_there = path.exists()
        self.dir.workers.wait()  # all have looked before one writes
        if not is_there:
            measurer = self.as_measurer(self.store.load(stage.model_folder))
            context = Context(progress=self.progress)
            row = measure(measurer, self.labels, context)
            sources = tuple(dict.fromkeys(filter(None, self.labels.sources())))
            scores = ScoreMatrix(
                (name,), row[None], self.labels.sources(), (sources,), context.reasons
            )
            self.dir.write(lambda: scores.write(path))
        return ScoreMatrix.read(path)

    def _note(
        self, event: str, threshold: float | None, stage: Stage, keep: np.ndarray
    ) -> dict[str, Any]:
        """Record a stage in the metrics and for the summary."""
        record = stage.read()
        self.dir.record(event=event, threshold=threshold, stage=stage.key, **record)
        entry = {"name": event, "threshold": threshold, "stage": stage.key, **record}
        self.stages[threshold] = entry
        return entry

    def _summary(
        self, search: ThresholdSearch, base: Stage, winner: Stage, scores: ScoreMatrix
    ) -> dict[str, Any]:
        before = base.read()["score"]
        candidates = [self.stages[h] for h, _ in search.curve]
        return {
            "method": "ssa",
            **self.notes,
            "labels": _facts(self.labels),
            "validation": {**_facts(self.validation), **self._validation_statement()},
            "options": asdict(self.config),
            "no_curriculum": {"stage": base.key, "score": before, "kept": len(self.labels)},
            "threshold": search.best,
            "kept": winner.read()["kept"],
            "score": search.score,
            "gain": None if before is None else search.score - before,
            "search": search.to_dict(),
            "num_trainings": len({entry["stage"] for entry in self.stages.values()}),
            "stages": [self.stages[None], *candidates],
            "winner": winner.key,
            "reliability": {name: Distribution(scores[name]).to_dict() for name in scores.names},
            "unscored": {str(row): reason for row, reason in list(scores.reasons.items())[:100]},
        }

    def _validation_statement(self) -> dict[str, Any]:
        if not self.is_held_out:
            return {"kind": "given", "statement": "Decided on the validation labels given."}
        return {
            "kind": "held out",
            "statement": (
                f"No validation labels were given: decided on {len(self.validation)} "
                f"pseudo-labels of {self.validation.num_images} held-out image(s), which nothing "
                "was trained on. Their boxes are pseudo-labels too, wrong ones among them, so "
                "scores are agreement with pseudo-labels, not accuracy."
            ),
        }


def _blind(labels: LabelTable) -> LabelTable:
    given = [COLUMN + name for name in labels.reliability_names]
    return labels.drop_columns(["truth", *given])


def _facts(labels: LabelTable) -> dict[str, Any]:
    return {
        "count": len(labels),
        "images": labels.num_images,
        "sources": sorted(set(labels.sources())),
        "fingerprint": labels.fingerprint(),
        "root": None if labels.images is None else str(labels.images),
    }
