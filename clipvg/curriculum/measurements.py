"""Reliability of a run's labels by the models of its stages, measured once and kept in the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from clipvg.curriculum.protocols import Learner
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import Context, Measurer, measure
from clipvg.runs.run import Run
from clipvg.runs.stage import Stage


@dataclass(frozen=True)
class Measurements:
    """Measures labels with the models of stages.

    Attributes:
        learner: makes measurers of models.
        labels: N training labels, without truth and reliability.
        run: run directory.
        progress: show a bar while labels are measured.
    """

    learner: Learner[Any]
    labels: LabelTable
    run: Run
    progress: bool = False

    def measure(
        self,
        stage: Stage,
        name: str,
        labels: LabelTable | None = None,
        *,
        trained_on: Sequence[str],
        part: str = "",
        teacher: bool = False,
    ) -> ScoreMatrix:
        """Return the reliability of labels by a stage's model.

        Args:
            stage: a finished one.
            name: of the measurer.
            labels: what to measure; the training labels when None.
            trained_on: source names of what the stage was trained on.
            part: word for other labels in the name of the file.
            teacher: let the stage's teacher measure, where there is one.
        """
        path = self.run.scores_path(scores_key(stage.key, name, part))

        def make() -> ScoreMatrix:
            measured = self.labels if labels is None else labels
            context = Context(progress=self.progress)
            found = measure(self.measurer(stage, teacher), measured, context)
            if not np.isfinite(found.values).any() and found.reasons:
                why = next(iter(found.reasons.values()))
                raise InputError(f"the measurer {name!r} could score no label; the first: {why}")
            origin = {name: filter(None, trained_on)}
            return ScoreMatrix.of({name: found}, measured.encoded_sources(), origin)

        return self.run.once(path, make, ScoreMatrix.write, ScoreMatrix.read)

    def measurer(self, stage: Stage, teacher: bool = False) -> Measurer:
        """Return a stage's model, or its teacher where there is one, as a measurer."""
        return self.learner.measurer(self.learner.load(stage.measuring_folder(teacher)))


def sources_of(labels: LabelTable) -> tuple[str, ...]:
    """Return the distinct known sources of labels, in order of first appearance."""
    return tuple(dict.fromkeys(filter(None, labels.sources())))


def scores_key(stage: str, name: str, part: str = "") -> str:
    """Return the name of a file of scores, see `Run.scores_path`."""
    return "-".join(filter(None, (stage, quote(name, safe=" "), part)))
