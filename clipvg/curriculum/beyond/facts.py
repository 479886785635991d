"""What a run's summary says of what goes beyond the published method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clipvg.curriculum.threshold import ThresholdSearch
from clipvg.runs.record import Record
from clipvg.runtime.files import Json


@dataclass(frozen=True, kw_only=True)
class VariantDetails(Record):
    """What only some variants of `Beyond` have."""

    thresholds: Mapping[str, float] | None = None  # by source
    measurers: Mapping[str, str] | None = None  # by source
    weight: float | None = None  # sum of the weights
    corrected: int | None = None  # number of labels with another box
    voters: int | None = None  # number of models that corrected them
    # by source that was taken back, the scores with and without its labels
    left_out: Mapping[str, Mapping[str, float]] | None = None
    search: ThresholdSearch | None = None  # of the threshold of a round
    scores: str | None = None  # file of the scores of a round
    teacher: bool | None = None  # whether a teacher measured in a round

    @property
    def said_of_sources(self) -> str:
        """Which sources were left out, and why, for people; "" where none was."""
        return ", ".join(
            f"without {source} ({100 * scores['without']:.1f} % instead of "
            f"{100 * scores['with']:.1f} % with it)"
            for source, scores in (self.left_out or {}).items()
        )


@dataclass(frozen=True, kw_only=True)
class VariantFacts(VariantDetails):
    """A variant of `Beyond`."""

    name: str  # of the variant
    stage: str  # key of its training
    score: float | None  # on the validation labels
    gain: float | None  # over the plain method
    kept: int  # number of labels it was trained on
    trainings: int  # number of all trainings it rests on
    steps: int | None = None  # of the optimizer in these; None where the learner does not tell
    hard: bool  # whether it was trained on labels as they are, each in full or not at all


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
