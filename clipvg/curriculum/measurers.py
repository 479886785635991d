"""The measurers of a run: what was trained to measure, or the scores that came along."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from clipvg.curriculum.config import ADAPTED
from clipvg.curriculum.continued import Previous
from clipvg.curriculum.measurements import Measurements, scores_key
from clipvg.curriculum.split import Split
from clipvg.curriculum.summary import MeasurerFacts, Training
from clipvg.curriculum.trainings import Trainings
from clipvg.errors import InputError
from clipvg.reliability.histogram import Distribution
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.runs.run import Run
from clipvg.runs.stage import Stage

_GIVEN = "given"


@dataclass(frozen=True)
class Measurers:
    """What measured the training labels.

    Attributes:
        scores: by n measurers.
        files: n names of files of scores, see `Run.scores_path`.
        stages: of those that were trained, by name.
    """

    scores: ScoreMatrix
    files: tuple[str, ...]
    stages: Mapping[str, Stage]

    @classmethod
    def given(cls, split: Split, run: Run) -> Measurers:
        """Take the scores that came with the labels into the run."""
        scores = split.given_scores()
        check_names(scores.names)
        run.write(lambda: scores.write(run.scores_path(_GIVEN)))
        return cls(scores, (_GIVEN,) * len(scores.names), {})

    @classmethod
    def of(
        cls,
        measurements: Measurements,
        stages: Mapping[str, Stage],
        trained_on: Mapping[str, tuple[str, ...]],
    ) -> Measurers:
        """Measure the training labels with the models of stages, by name."""
        scores = [
            measurements.measure(stage, name, trained_on=trained_on[name])
            for name, stage in stages.items()
        ]
        files = tuple(scores_key(stage.key, name) for name, stage in stages.items())
        return cls(ScoreMatrix.concat(scores), files, stages)

    def held_out(self, split: Split, measurements: Measurements) -> ScoreMatrix:
        """Return their scores of the labels that are held out."""
        if not self.stages:
            return split.given_scores(held_out=True)
        trained_on = dict(zip(self.scores.names, self.scores.trained_on, strict=True))
        labels = split.validation.labels
        return ScoreMatrix.concat(
            measurements.measure(stage, name, labels, trained_on=trained_on[name], part="held_out")
            for name, stage in self.stages.items()
        )

    def joined(self, more: ScoreMatrix, file: str) -> Measurers:
        """Return these measurers with further scores of one file."""
        scores = ScoreMatrix.concat([self.scores, more])
        return Measurers(scores, self.files + (file,) * len(more.names), self.stages)

    def note(self, trainings: Trainings) -> tuple[Training, ...]:
        """Judge and record those that were trained, each with the scores of its own sources."""
        noted = []
        for name, stage in self.stages.items():
            trainings.judge(stage)
            reliability = Distribution(self.scores.specific(name)).to_dict()
            noted.append(trainings.note("measurer", stage, measurer=name, reliability=reliability))
        return tuple(noted)

    def facts(self) -> tuple[MeasurerFacts, ...]:
        """Return what the summary says of them."""
        scores = self.scores
        return tuple(
            MeasurerFacts(
                name=name,
                stage=self.stages[name].key if name in self.stages else None,
                trained_on=list(trained_on),
                scores=file,
            )
            for name, trained_on, file in zip(
                scores.names, scores.trained_on, self.files, strict=True
            )
        )


def train_measurers(
    trainings: Trainings,
    measurements: Measurements,
    sources: Iterable[str],
    previous: Previous | None,
) -> Measurers:
    """Train a measurer on each source, beside those of a run to continue, and measure all labels.

    Raises:
        InputError: that run has a measurer of the name of a new source.
    """
    stages: dict[str, Stage] = {}
    trained_on: dict[str, tuple[str, ...]] = {}
    if previous is not None:
        for name, there in previous.measurers.items():
            stages[name] = previous.adopt(there.stage, trainings.run)
            trained_on[name] = there.trained_on
    names = np.array(trainings.labels.sources(), dtype=object)
    for source in sources:
        if source in stages:
            raise InputError(f"there is a measurer {source!r} already; rename the new source.")
        (stages[source],) = trainings.train([names == source])
        trained_on[source] = (source,)
    return Measurers.of(measurements, stages, trained_on)


def check_names(names: Iterable[str]) -> None:
    """Refuse names of measurers that the curriculum uses itself, and an empty one."""
    for name in names:
        if not name:
            raise InputError(
                "some labels have no source; name one with source=..., or take all labels as one "
                "source with method='ssa'."
            )
        if name == ADAPTED:
            raise InputError(f"{name!r} is what the adapted model is called; choose another name.")
