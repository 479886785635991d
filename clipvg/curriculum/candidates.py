"""Threshold search whose candidates are trained and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from clipvg.curriculum.summary import Step, Training
from clipvg.curriculum.threshold import ThresholdSearch
from clipvg.curriculum.trainings import Trainings
from clipvg.reliability.histogram import Distribution, kept
from clipvg.runs.stage import Stage
from clipvg.runtime.files import Json


@dataclass(frozen=True)
class Searched:
    """A search, the stage of its best candidate, and all candidates by threshold."""

    search: ThresholdSearch
    best: Stage
    candidates: tuple[Training, ...]
    keep: np.ndarray  # (N,) bool, labels that the best candidate was trained on

    def step(self, source: str, measurer: str, *, specific: bool, labels: int, kept: int) -> Step:
        """Return the decision about a source that has `labels` labels, of which `kept` are kept."""
        return Step(
            source=source,
            measurer=measurer,
            labels=labels,
            specific=specific,
            choice=(),
            threshold=self.search.best,
            kept=int(kept),
            score=self.search.score,
            search=self.search,
            stages=self.candidates,
            total=int(kept),
        )


@dataclass
class TrainedCandidates:
    """The candidates of one search, trained when it asks for them; see `Candidates`."""

    work: Trainings  # trains and records them
    reliability: np.ndarray  # (N,) float32, NaN for labels that are not to be selected
    given: np.ndarray  # (N,) bool, labels that every candidate is trained on
    init: Stage | None  # stage whose model trainings start from, see `Trainings.train`
    # (N,) bool, labels whose batches joint trainings walk over, see `Trainings.train`
    union: np.ndarray | None
    facts: Json  # recorded with every candidate, see `Training`
    # stage and record of each threshold so far
    found: dict[float, tuple[Stage, Training]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.strict = self.work.config.strict
        self._distribution = Distribution(self.reliability)

    def __call__(self, thresholds: Sequence[float], /) -> list[float | None]:
        """Train a model on the labels of each threshold, and return their validation scores."""
        subsets = [self.given | kept(self.reliability, h, strict=self.strict) for h in thresholds]
        stages = self.work.train(
            subsets,
            how=self.work.config.candidates,
            init=self.init,
            union=self.union,
            names=self._names(thresholds),
        )
        for h, stage, keep in zip(thresholds, stages, subsets, strict=True):
            chosen = Distribution(self.reliability[keep & ~self.given]).to_dict()
            note = self.work.note("candidate", stage, threshold=h, reliability=chosen, **self.facts)
            self.found[h] = stage, note
        return [stage.read()["score"] for stage in stages]

    def _names(self, thresholds: Sequence[float]) -> list[str]:
        """Return names for progress: the threshold, how many there may be, and the last score."""
        config, source = self.work.config, self.facts.get("source")
        most = round((config.high - config.low) / config.step) + 1
        about = f"{source} " if source else ""
        number = len(self.found) + 1
        last = next(reversed(self.found.items()), None)
        gave = ""
        if last is not None and last[1][1].score is not None:
            gave = f", {last[0]:g} gave {last[1][1].score:.3f}"
        return [
            f"{about}r ≥ {h:g} (candidate {number + i} of at most {most}{gave})"
            for i, h in enumerate(thresholds)
        ]

    def count(self, threshold: float) -> int:
        """Return the number of labels kept at a threshold, including those given."""
        above = self._distribution.count_above(threshold, strict=self.strict)
        return int(self.given.sum()) + above


def search_threshold(
    work: Trainings,
    reliability: np.ndarray,
    *,
    given: np.ndarray | None = None,
    init: Stage | None = None,
    union: np.ndarray | None = None,
    **facts: str | None,
) -> Searched:
    """Search for the threshold whose labels, joined with those given, train the best model.

    Labels that are not to be selected have the reliability NaN. `init` and `union` are those of
    `Trainings.train`; `facts` are recorded with every candidate, see `Training`. Annotated labels
    are always given.
    """
    annotated = work.split.labelled
    given = annotated if given is None else given | annotated
    reliability = np.where(annotated, np.float32(np.nan), reliability)
    candidates = TrainedCandidates(work, reliability, given, init, union, facts)
    config, total = work.config, int((given | np.isfinite(reliability)).sum())
    search = work.strategy(
        candidates,
        config.start,
        config.step,
        low=config.low,
        high=config.high,
        count=candidates.count,
        min_kept=config.least(total),
    )
    told = {key: value for key, value in facts.items() if value is not None}
    work.run.record(event="chosen", **told, threshold=search.best, score=search.score)
    tried = tuple(candidates.found[h][1] for h, _ in search.curve)
    keep = given | kept(reliability, search.best, strict=config.strict)
    return Searched(search, candidates.found[search.best][0], tried, keep)
