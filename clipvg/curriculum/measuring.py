"""Reliability by the model of a stage, measured once and kept in the run."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

import numpy as np

from clipvg.curriculum.trainings import Trainings
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import Context, Measurer, Scores
from clipvg.reliability.measurer import measure as run_measurer
from clipvg.runs.stage import Stage


def measure(
    work: Trainings,
    stage: Stage,
    name: str,
    labels: LabelTable | None = None,
    *,
    trained_on: Iterable[str],
    part: str = "",
    teacher: bool = False,
) -> ScoreMatrix:
    """Return the reliability of labels by a stage's model, measured once and kept in the run.

    Args:
        work: trainings of the run.
        stage: a finished one.
        name: of the measurer.
        labels: what to measure; the training labels when None.
        trained_on: source names of what the stage was trained on.
        part: word for other labels in the name of the file.
        teacher: let the stage's teacher measure, where there is one.
    """

    def make() -> ScoreMatrix:
        measured = work.labels if labels is None else labels
        return matrix_of(name, ask(work, stage, measured, teacher), measured, trained_on)

    path = work.run.scores_path(scores_key(stage.key, name, part))
    return work.run.once(path, make, ScoreMatrix.write, ScoreMatrix.read)


def ask(work: Trainings, stage: Stage, labels: LabelTable, teacher: bool) -> Scores:
    """Return what a stage's model, or its teacher, says of labels."""
    context = Context(progress=work.progress)
    return run_measurer(measurer_of(work, stage, teacher), labels, context)


def matrix_of(
    name: str, found: Scores, labels: LabelTable, trained_on: Iterable[str]
) -> ScoreMatrix:
    """Return what one measurer says of labels as a matrix.

    Raises:
        InputError: it could score none of them.
    """
    if not np.isfinite(found.values).any() and found.reasons:
        why = next(iter(found.reasons.values()))
        raise InputError(f"the measurer {name!r} could score no label; the first: {why}")
    origin = {name: filter(None, trained_on)}
    return ScoreMatrix.of({name: found}, labels.encoded_sources(), origin)


def measurer_of(work: Trainings, stage: Stage, teacher: bool = False) -> Measurer:
    """Return a stage's model, or its teacher where there is one, as a measurer."""
    return work.learner.measurer(work.learner.load(stage.measuring_folder(teacher)))


def scores_key(stage: str, name: str, part: str = "") -> str:
    """Return the name of a file of scores, see `Run.scores_path`."""
    return "-".join(filter(None, (stage, quote(name, safe=" "), part)))
