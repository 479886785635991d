"""Measure reliability by a stage's model or, with folds, by models that never saw the images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

import numpy as np

from clipvg.curriculum.split import sources_of
from clipvg.curriculum.summary import FoldFacts, count_steps
from clipvg.curriculum.trainings import Trainings
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import BoxPredictor, Context, Measurer, Scores, join_reasons
from clipvg.reliability.measurer import measure as run_measurer
from clipvg.runs.run import Run
from clipvg.runs.stage import Stage
from clipvg.runtime.files import write_array

FOLD = "fold"  # name of a training without one fold in the records of a run


def measure(
    work: Trainings,
    stage: Stage,
    name: str,
    *,
    trained_on: Iterable[str],
    teacher: bool = False,
    held_out: bool = False,
) -> ScoreMatrix:
    """Return the reliability of labels by a finished stage's model, measured once per run.

    The labels are the training labels or, with `held_out`, the held-out ones. `trained_on` are the
    sources that the stage was trained on; with `teacher`, its teacher measures if there is one.
    """

    def make() -> ScoreMatrix:
        labels = work.split.validation if held_out else work.labels
        return matrix_of(name, ask(work, stage, labels, teacher), labels, trained_on)

    return kept_scores(work.run, scores_key(stage.key, name, "held_out" if held_out else ""), make)


def ask(work: Trainings, stage: Stage, labels: LabelTable, teacher: bool) -> Scores:
    """Measure labels with a stage's model, or with its teacher if requested and present."""
    context = Context(progress=work.progress)
    return run_measurer(measurer_of(work, stage, teacher), labels, context)


def matrix_of(
    name: str, found: Scores, labels: LabelTable, trained_on: Iterable[str]
) -> ScoreMatrix:
    """Return one measurer's scores as a matrix; refuse a measurer that could score no label."""
    if not np.isfinite(found.values).any() and found.reasons:
        why = next(iter(found.reasons.values()))
        raise InputError(f"the measurer {name!r} could score no label; the first: {why}")
    origin = {name: filter(None, trained_on)}
    return ScoreMatrix.of({name: found}, labels.encoded_sources(), origin)


def measurer_of(work: Trainings, stage: Stage, teacher: bool = False) -> Measurer:
    """Return a stage's model, or its teacher if requested and present, as a measurer."""
    return work.learner.measurer(work.learner.load(stage.measuring_folder(teacher)))


def predict_boxes(work: Trainings, stage: Stage) -> np.ndarray:
    """Return the boxes of a stage's model for the training labels, float32 (N, 4) xyxy pixels."""

    def make() -> np.ndarray:
        measurer = measurer_of(work, stage)
        if not isinstance(measurer, BoxPredictor):
            raise InputError(
                f"a {type(measurer).__name__} predicts no boxes to correct labels with; give it a "
                "method predict(labels, context), or leave correct out."
            )
        context = Context(progress=work.progress)
        return np.asarray(measurer.predict(work.labels, context), np.float32)

    path = stage.folder / "boxes.npy"
    return work.run.once(path, make, lambda boxes, path: write_array(path, boxes), np.load)


def scores_key(stage: str, name: str, part: str = "") -> str:
    """Return the key of a file of scores, see `Run.scores_path`."""
    return "-".join(filter(None, (stage, quote(name, safe=" "), part)))


def kept_scores(run: Run, key: str, make: Callable[[], ScoreMatrix]) -> ScoreMatrix:
    """Return the scores stored under a key; make them if the file does not exist yet."""
    return run.once(run.scores_path(key), make, ScoreMatrix.write, ScoreMatrix.read)


def split_folds(labels: LabelTable, folds: int, *, seed: int = 0) -> np.ndarray:
    """Return the fold of each label, (N,) int64 from 0; all labels of an image share a fold.

    Images are taken in an order that their names and the seed determine. Each goes to the fold with
    the smallest share so far of the labels of its sources, of equals to that with the fewest
    labels. So each source has about as many labels in one fold as in another, no fold is empty, and
    the order of the labels does not matter.

    Args:
        labels: N labels.
        folds: number of folds K, at least 2.
        seed: seed of the division.

    Raises:
        InputError: there are fewer images than folds.
    """
    names, image_of = labels.distinct_images()
    if len(names) < folds:
        raise InputError(
            f"the labels are on {len(names)} image(s), too few for {folds} folds; pass more "
            "images, or ask for fewer folds."
        )
    sources, source_of = np.unique(np.array(labels.sources()), return_inverse=True)
    counts = np.zeros((len(names), len(sources)), np.int64)
    np.add.at(counts, (image_of, source_of), 1)
    # Integers, so that ties are ties on every machine.
    scale = np.rint(1e6 * len(labels) / counts.sum(axis=0)).astype(np.int64)
    draws = [hashlib.sha256(f"fold:{seed}:{name}".encode()).digest() for name in names]
    taken = np.zeros((folds, len(sources)), np.int64)
    fold_of = np.zeros(len(names), np.int64)
    for image in sorted(range(len(names)), key=draws.__getitem__):
        share = (taken * scale * counts[image]).sum(axis=1)
        fold_of[image] = np.lexsort((taken.sum(axis=1), share))[0]
        taken[fold_of[image]] += counts[image]
    return fold_of[image_of]


@dataclass(frozen=True)
class Measured:
    """Reliability of the training labels by one measurer."""

    scores: ScoreMatrix
    file: str  # name of the scores' file, see `Run.scores_path`
    folds: frozenset[str] = frozenset()  # keys of the folds' trainings; none if in-sample


def measure_labels(
    work: Trainings,
    stage: Stage,
    name: str,
    weights: np.ndarray,
    *,
    labels: LabelTable | None = None,
    teacher: bool = False,
) -> Measured:
    """Measure the training labels by a stage's model or, with folds, by models in its place.

    With K folds, K models are trained as the stage was, each without the labels of one fold, and
    each measures the fold that it has not seen. `weights` (N,) are those of the labels in the
    stage's training, 0 for labels left out; `labels` are given if some had another box there. With
    `teacher`, teachers measure where they exist.
    """
    config, trained_on = work.config, sources_of(work.labels.select(weights > 0))
    if not config.folds:
        scores = measure(work, stage, name, trained_on=trained_on, teacher=teacher)
        return Measured(scores, scores_key(stage.key, name))
    fold = split_folds(work.labels, config.folds, seed=config.seed)
    stages = _train(work, name, fold, weights, work.labels if labels is None else labels)
    for each in stages:
        work.note(FOLD, each, measurer=name)
    own = None
    if config.fold_mean:
        own = measure(work, stage, name, trained_on=trained_on, teacher=teacher)

    def make() -> ScoreMatrix:
        found = _ask_each(work, stages, fold, teacher)
        if own is not None:
            reasons = join_reasons([own.reasons, found.reasons])
            found = Scores((found.values + own[name]) / 2, reasons)
        return matrix_of(name, found, work.labels, trained_on)

    part = "mean of itself and " if config.fold_mean else ""
    file = scores_key(stage.key, name, f"{part}{config.folds} {config.fold_steps} folds")
    scores = kept_scores(work.run, file, make)
    return Measured(scores, file, frozenset(each.key for each in stages))


def fold_facts(work: Trainings) -> FoldFacts | None:
    """Return the facts of a run's folds for the summary; None if it has none."""
    trainings = [training for training in work.noted.values() if training.name == FOLD]
    if not trainings:
        return None
    fold = split_folds(work.labels, work.config.folds, seed=work.config.seed)
    labels, steps = np.bincount(fold).tolist(), count_steps(trainings)
    cost = f"{len(trainings)} trainings{'' if steps is None else f', {steps:,} steps in all'}"
    half = ", and counts as much as the measurer itself" if work.config.fold_mean else ""
    statement = (
        f"Reliability is out-of-sample: one of {len(labels)} models judges each label, trained "
        f"without any label of its image{half} ({cost})."
    )
    return FoldFacts(labels=labels, trainings=len(trainings), steps=steps, statement=statement)


def _train(
    work: Trainings, name: str, fold: np.ndarray, weights: np.ndarray, labels: LabelTable
) -> list[Stage]:
    """Train a model without each fold; if the learner can, all walk over the same batches."""
    folds, keep = work.config.folds, weights > 0
    without = [keep & (fold != number) for number in range(folds)]
    if not all(rows.any() for rows in without):
        raise InputError(
            f"all labels of the measurer {name!r} are in one of the {folds} folds, so its model "
            "would have none to train on; pass labels of more images, or leave folds out."
        )
    if not np.isin(weights, (0, 1)).all():
        labels = labels.with_column("weight", labels.weights() * weights)
    alone = replace(
        work,
        split=replace(work.split, training=labels),
        config=replace(work.config, halving=False, warm_start=False),
        judges=False,
        share=1 / folds if work.config.fold_steps == "shared" else 1,
    )
    names = [f"{name} without fold {number + 1} of {folds}" for number in range(folds)]
    return alone.train(without, how="together", union=keep, names=names)


def _ask_each(work: Trainings, stages: Sequence[Stage], fold: np.ndarray, teacher: bool) -> Scores:
    """Measure the labels of each fold with the model that was trained without it."""
    values = np.full(len(fold), np.nan, np.float32)
    reasons: dict[int, str] = {}
    for number, stage in enumerate(stages):
        rows = np.flatnonzero(fold == number)
        found = ask(work, stage, work.labels.select(rows), teacher)
        values[rows] = found.values
        reasons |= {int(rows[place]): why for place, why in found.reasons.items()}
    return Scores(values, reasons)
