"""Records of the variants beyond the published method, for a run's summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clipvg.curriculum.threshold import ThresholdSearch
from clipvg.runs.record import Record
from clipvg.runtime.files import Json


@dataclass(frozen=True, kw_only=True)
class VariantDetails(Record):
    """Facts that only some variants of `Beyond` have."""

    thresholds: Mapping[str, float] | None = None  # by source
    measurers: Mapping[str, str] | None = None  # by source
    weight: float | None = None  # sum of the weights
    corrected: int | None = None  # number of labels with another box
    voters: int | None = None  # number of models that corrected them
    # removed source -> the scores "with" and "without" its labels
    left_out: Mapping[str, Mapping[str, float]] | None = None
    search: ThresholdSearch | None = None  # of the threshold of a round
    scores: str | None = None  # file of the scores of a round
    teacher: bool | None = None  # whether a teacher measured in a round

    @property
    def said_of_sources(self) -> str:
        """Phrase for people: which sources were left out, and why; "" if none was."""
        return ", ".join(
            f"without {source} ({100 * scores['without']:.1f} % instead of "
            f"{100 * scores['with']:.1f} % with it)"
            for source, scores in (self.left_out or {}).items()
        )


@dataclass(frozen=True, kw_only=True)
class VariantFacts(VariantDetails):
    """Summary of a variant of `Beyond`."""

    name: str  # of the variant
    stage: str  # key of its training
    score: float | None  # on the validation labels
    gain: float | None  # over the plain method
    kept: int  # number of labels it was trained on
    trainings: int  # number of all trainings it depends on
    steps: int | None = None  # optimizer steps in these; None if the learner does not report them
    hard: bool  # whether it was trained on unchanged labels, each in full or not at all


@dataclass(frozen=True, kw_only=True)
class BeyondFacts(Record):
    """Summary of all variants of a run; ``chosen`` is the one that is the result."""

    options: Json
    chosen: str
    variants: tuple[VariantFacts, ...]
    skipped: Mapping[str, str]
    stopped: str | None

    @property
    def winner(self) -> VariantFacts:
        """The chosen variant."""
        return next(each for each in self.variants if each.name == self.chosen)
