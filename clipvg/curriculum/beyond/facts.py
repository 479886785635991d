"""What a run's summary says of the variants beyond the published method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clipvg.curriculum.threshold import ThresholdSearch
from clipvg.runs.record import Record
from clipvg.runtime.files import Json


@dataclass(frozen=True, kw_only=True)
class VariantDetails(Record):
    """What only some variants of `Beyond` have.

    Attributes:
        thresholds: by source.
        measurers: by source.
        weight: sum of the weights.
        corrected: number of labels with another box.
        voters: number of models that corrected them.
        search: of the threshold of a round.
        scores: file of the scores of a round.
        teacher: whether a teacher measured in a round.
    """

    thresholds: Mapping[str, float] | None = None
    measurers: Mapping[str, str] | None = None
    weight: float | None = None
    corrected: int | None = None
    voters: int | None = None
    search: ThresholdSearch | None = None
    scores: str | None = None
    teacher: bool | None = None


@dataclass(frozen=True, kw_only=True)
class VariantFacts(VariantDetails):
    """A variant of `Beyond`.

    Attributes:
        name: of the variant.
        stage: key of its training.
        score: on the validation labels.
        gain: over the plain method.
        kept: number of labels it was trained on.
        trainings: number of all trainings it rests on.
        hard: whether it was trained on labels as they are, each in full or not at all.
    """

    name: str
    stage: str
    score: float | None
    gain: float | None
    kept: int
    trainings: int
    hard: bool


@dataclass(frozen=True, kw_only=True)
class BeyondFacts(Record):
    """What went beyond the published method; ``chosen`` is the variant that is the result."""

    options: Json
    chosen: str
    variants: tuple[VariantFacts, ...]
    skipped: Mapping[str, str]
    stopped: str | None

    @property
    def winner(self) -> VariantFacts:
        """The chosen variant."""
        return next(each for each in self.variants if each.name == self.chosen)
