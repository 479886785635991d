"""The measurers of a run: models trained to measure, or scores that came with the labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from clipvg.curriculum.config import ADAPTED
from clipvg.curriculum.continued import Previous
from clipvg.curriculum.measuring import measure, measure_labels
from clipvg.curriculum.summary import MeasurerFacts, Training
from clipvg.curriculum.trainings import Trainings
from clipvg.errors import InputError
from clipvg.reliability.histogram import Distribution
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.runs.stage import Stage

_GIVEN = "given"


@dataclass(frozen=True)
class Measurers:
    """The measurers of the training labels and their scores."""

    scores: ScoreMatrix  # by n measurers
    files: tuple[str, ...]  # n names of score files, see `Run.scores_path`
    stages: Mapping[str, Stage]  # stages of the trained measurers, by name
    # keys of the folds' trainings that measured in their place, see `measure_labels`
    folds: frozenset[str] = frozenset()

    @property
    def trainings(self) -> frozenset[str]:
        """Keys of all trainings that the scores depend on."""
        return self.folds.union(stage.key for stage in self.stages.values())

    @classmethod
    def given(cls, work: Trainings) -> Measurers:
        """Return the scores that came with the labels, after copying them into the run."""
        scores = work.split.given_scores()
        check_names(scores.names)
        work.run.write(lambda: scores.write(work.run.scores_path(_GIVEN)))
        return cls(scores, (_GIVEN,) * len(scores.names), {})

    @classmethod
    def of(
        cls, work: Trainings, stages: Mapping[str, Stage], trained_on: Mapping[str, np.ndarray]
    ) -> Measurers:
        """Measure the training labels with the models of stages."""
        found = [measure_labels(work, stages[name], name, trained_on[name]) for name in stages]
        return cls(
            ScoreMatrix.concat(each.scores for each in found),
            tuple(each.file for each in found),
            stages,
            frozenset(key for each in found for key in each.folds),
        )

    def held_out(self, work: Trainings) -> ScoreMatrix:
        """Return their scores of the held-out labels."""
        if not self.stages:
            return work.split.given_scores(held_out=True)
        origins = zip(self.scores.names, self.scores.trained_on, strict=True)
        return ScoreMatrix.concat(
            measure(work, self.stages[name], name, trained_on=origin, held_out=True)
            for name, origin in origins
        )

    def joined(self, more: ScoreMatrix, file: str) -> Measurers:
        """Return these measurers joined with further scores from one file."""
        scores = ScoreMatrix.concat([self.scores, more])
        return replace(self, scores=scores, files=self.files + (file,) * len(more.names))

    def note(self, work: Trainings) -> tuple[Training, ...]:
        """Judge and record the trained measurers, each with the scores of its own sources."""
        noted = []
        for name, stage in self.stages.items():
            work.judge(stage)
            reliability = Distribution(self.scores.specific(name)).to_dict()
            noted.append(work.note("measurer", stage, measurer=name, reliability=reliability))
        return tuple(noted)

    def facts(self) -> tuple[MeasurerFacts, ...]:
        """Return the measurers' facts for the summary."""
        rows = zip(self.scores.names, self.scores.trained_on, self.files, strict=True)
        return tuple(
            MeasurerFacts(
                name=name,
                stage=self.stages[name].key if name in self.stages else None,
                trained_on=list(trained_on),
                scores=file,
            )
            for name, trained_on, file in rows
        )


def train_measurers(
    work: Trainings, sources: Iterable[str], previous: Previous | None
) -> Measurers:
    """Train a measurer on each source, add those of a run to continue, and measure all labels."""
    stages: dict[str, Stage] = {}
    trained_on: dict[str, np.ndarray] = {}
    names = np.array(work.labels.sources(), dtype=object)
    if previous is not None:
        for name, there in previous.measurers.items():
            assert there.stage is not None
            stages[name] = previous.adopt(there.stage, work.run)
            trained_on[name] = np.isin(names, there.trained_on)
    for source in sources:
        if source in stages:
            raise InputError(f"there is a measurer {source!r} already; rename the new source.")
        trained_on[source] = names == source
        (stages[source],) = work.train([trained_on[source]], names=[f"measurer of {source}"])
    return Measurers.of(work, stages, trained_on)


def check_names(names: Iterable[str]) -> None:
    """Refuse an empty name of a measurer, and the one reserved for the adapted model."""
    for name in names:
        if not name:
            raise InputError(
                "some labels have no source; name one with source=..., or take all labels as one "
                "source with method='ssa'."
            )
        if name == ADAPTED:
            raise InputError(f"{name!r} is what the adapted model is called; choose another name.")
