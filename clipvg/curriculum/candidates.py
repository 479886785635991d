"""The candidates of a threshold search: trained, judged and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from clipvg.curriculum.summary import Choice, Step, Training
from clipvg.curriculum.threshold import ThresholdSearch
from clipvg.reliability.histogram import Distribution, kept
from clipvg.runs.stage import Stage


@dataclass(frozen=True)
class Searched:
    """A search, the stage of its best candidate, and all candidates by threshold."""

    search: ThresholdSearch
    best: Stage
    candidates: tuple[Training, ...]

    def step(
        self,
        source: str,
        measurer: str,
        *,
        specific: bool,
        labels: int,
        kept: int,
        before: int = 0,
        complexity: float | None = None,
        h0: float | None = None,
        choice: tuple[Choice, ...] = (),
    ) -> Step:
        """Return the decision about a source, of which ``kept`` labels join those ``before``."""
        return Step(
            source=source,
            measurer=measurer,
            complexity=complexity,
            labels=labels,
            specific=specific,
            h0=h0,
            choice=choice,
            threshold=self.search.best,
            kept=int(kept),
            score=self.search.score,
            search=self.search,
            stages=self.candidates,
            total=before + int(kept),
        )


@dataclass
class TrainedCandidates:
    """The candidates of one search, which trains them; see `Candidates`.

    Attributes:
        reliability: (N,) float32, NaN for labels that are not to be selected.
        strict: whether labels with r > h are kept, not those with r >= h.
        given: (N,) bool, labels of every candidate.
        train: subsets of the labels -> finished stages.
        note: records a stage.
        found: stage and record of each threshold so far.
    """

    reliability: np.ndarray
    strict: bool
    given: np.ndarray
    train: Callable[[list[np.ndarray]], list[Stage]]
    note: Callable[..., Training]
    found: dict[float, tuple[Stage, Training]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._distribution = Distribution(self.reliability)

    def __call__(self, thresholds: Sequence[float], /) -> list[float | None]:
        """Train on the labels of each threshold, and return how well each model does."""
        subsets = [self.given | kept(self.reliability, h, strict=self.strict) for h in thresholds]
        stages = self.train(subsets)
        for h, stage, keep in zip(thresholds, stages, subsets, strict=True):
            chosen = Distribution(self.reliability[keep & ~self.given]).to_dict()
            self.found[h] = stage, self.note(stage, threshold=h, reliability=chosen)
        return [stage.read()["score"] for stage in stages]

    def count(self, threshold: float) -> int:
        """Return the number of labels at a threshold, those given included."""
        above = self._distribution.count_above(threshold, strict=self.strict)
        return int(self.given.sum()) + above

    def searched(self, search: ThresholdSearch) -> Searched:
        """Return the result of a search that has ended."""
        tried = tuple(self.found[h][1] for h, _ in search.curve)
        return Searched(search, self.found[search.best][0], tried)
