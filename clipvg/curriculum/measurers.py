"""The measurers of a run: what was trained to measure, or the scores that came along."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np

from clipvg.curriculum.config import ADAPTED
from clipvg.curriculum.continued import Previous
from clipvg.curriculum.summary import MeasurerFacts, Training
from clipvg.curriculum.trainings import Trainings
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.histogram import Distribution
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import Context, Measurer
from clipvg.reliability.measurer import measure as run_measurer
from clipvg.runs.stage import Stage

_GIVEN = "given"


@dataclass(frozen=True)
class Measurers:
    """What measured the training labels."""

    scores: ScoreMatrix  # by n measurers
    files: tuple[str, ...]  # n names of files of scores, see `Run.scores_path`
    stages: Mapping[str, Stage]  # of those that were trained, by name

    @classmethod
    def given(cls, work: Trainings) -> Measurers:
        """Take the scores that came with the labels into the run."""
        scores = work.split.given_scores()
        check_names(scores.names)
        work.run.write(lambda: scores.write(work.run.scores_path(_GIVEN)))
        return cls(scores, (_GIVEN,) * len(scores.names), {})

    @classmethod
    def of(
        cls, work: Trainings, stages: Mapping[str, Stage], trained_on: Mapping[str, Sequence[str]]
    ) -> Measurers:
        """Measure the training labels with the models of stages, by name."""
        scores = [measure(work, stages[name], name, trained_on=trained_on[name]) for name in stages]
        files = tuple(scores_key(stage.key, name) for name, stage in stages.items())
        return cls(ScoreMatrix.concat(scores), files, stages)

    def held_out(self, work: Trainings) -> ScoreMatrix:
        """Return their scores of the labels that are held out."""
        if not self.stages:
            return work.split.given_scores(held_out=True)
        labels = work.split.validation
        origins = zip(self.scores.names, self.scores.trained_on, strict=True)
        return ScoreMatrix.concat(
            measure(work, self.stages[name], name, labels, trained_on=origin, part="held_out")
            for name, origin in origins
        )

    def joined(self, more: ScoreMatrix, file: str) -> Measurers:
        """Return these measurers with further scores of one file."""
        scores = ScoreMatrix.concat([self.scores, more])
        return Measurers(scores, self.files + (file,) * len(more.names), self.stages)

    def note(self, work: Trainings) -> tuple[Training, ...]:
        """Judge and record those that were trained, each with the scores of its own sources."""
        noted = []
        for name, stage in self.stages.items():
            work.judge(stage)
            reliability = Distribution(self.scores.specific(name)).to_dict()
            noted.append(work.note("measurer", stage, measurer=name, reliability=reliability))
        return tuple(noted)

    def facts(self) -> tuple[MeasurerFacts, ...]:
        """Return what the summary says of them."""
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
    """Train a measurer on each source, beside those of a run to continue, and measure all labels.

    Raises:
        InputError: that run has a measurer of the name of a new source.
    """
    stages: dict[str, Stage] = {}
    trained_on: dict[str, Sequence[str]] = {}
    if previous is not None:
        for name, there in previous.measurers.items():
            assert there.stage is not None
            stages[name] = previous.adopt(there.stage, work.run)
            trained_on[name] = there.trained_on
    names = np.array(work.labels.sources(), dtype=object)
    for source in sources:
        if source in stages:
            raise InputError(f"there is a measurer {source!r} already; rename the new source.")
        (stages[source],) = work.train([names == source], names=[f"measurer of {source}"])
        trained_on[source] = (source,)
    return Measurers.of(work, stages, trained_on)


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

    Without labels the training labels are measured; `part` tells others apart in the name of the
    file. With `teacher` the stage's teacher measures, where there is one.
    """

    def make() -> ScoreMatrix:
        measured = work.labels if labels is None else labels
        context = Context(progress=work.progress)
        found = run_measurer(measurer_of(work, stage, teacher), measured, context)
        if not np.isfinite(found.values).any() and found.reasons:
            why = next(iter(found.reasons.values()))
            raise InputError(f"the measurer {name!r} could score no label; the first: {why}")
        origin = {name: filter(None, trained_on)}
        return ScoreMatrix.of({name: found}, measured.encoded_sources(), origin)

    path = work.run.scores_path(scores_key(stage.key, name, part))
    return work.run.once(path, make, ScoreMatrix.write, ScoreMatrix.read)


def measurer_of(work: Trainings, stage: Stage, teacher: bool = False) -> Measurer:
    """Return a stage's model, or its teacher where there is one, as a measurer."""
    return work.learner.measurer(work.learner.load(stage.measuring_folder(teacher)))


def scores_key(stage: str, name: str, part: str = "") -> str:
    """Return the name of a file of scores, see `Run.scores_path`."""
    return "-".join(filter(None, (stage, quote(name, safe=" "), part)))
