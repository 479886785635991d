"""Greedy search for the reliability threshold, as a pure function of a performance curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

import numpy as np

from clipvg.errors import InputError
from clipvg.runs.record import Record
from clipvg.runtime.files import Json

ScoreMany = Callable[[Sequence[float]], Sequence[float | None]]
_UNUSABLE = -math.inf


@dataclass(frozen=True)
class ThresholdSearch(Record):
    """Result of `find_threshold`.

    Attributes:
        best: the chosen threshold h*.
        score: performance at h*, higher is better.
        curve: (threshold, score) of every evaluated threshold, by threshold: the
            performance-reliability curve. An unusable threshold has score None.
        batches: thresholds in the order in which they were asked for, one list per batch.
        skipped: threshold -> why it was not evaluated (same labels as another, too few labels).
        reason: why the search stopped.
    """

    best: float
    score: float
    curve: list[tuple[float, float | None]]
    batches: list[list[float]]
    reason: str
    skipped: dict[float, str] = field(default_factory=dict)

    @property
    def num_evaluations(self) -> int:
        """Number of thresholds evaluated."""
        return len(self.curve)

    def to_dict(self) -> Json:
        """Return the search as JSON values."""
        curve = [list(point) for point in self.curve]
        skipped = {str(h): why for h, why in self.skipped.items()}
        more = {"curve": curve, "skipped": skipped, "num_evaluations": self.num_evaluations}
        return {**super().to_dict(), **more}

    @classmethod
    def from_dict(cls, data: Json) -> ThresholdSearch:
        """Restore a search from what `to_dict` returned."""
        skipped = {float(h): why for h, why in data["skipped"].items()}
        return super().from_dict(
            {**data, "curve": [*map(tuple, data["curve"])], "skipped": skipped}
        )


class Candidates(Protocol):
    """Candidates of a search: for each threshold, the labels whose reliability reaches it."""

    reliability: np.ndarray  # (N,) float32, NaN for labels that are not to be selected
    strict: bool  # whether labels with r > h are kept instead of r >= h

    def __call__(self, thresholds: Sequence[float], /) -> Sequence[float | None]:
        """Train a model on the labels of each threshold and judge it; see `find_threshold`."""


class SearchStrategy(Protocol):
    """A function that chooses the threshold; `find_threshold` is one."""

    def __call__(
        self,
        candidates: Candidates,
        /,
        start: float,
        step: float,
        *,
        low: float,
        high: float,
        count: Callable[[float], int],
        min_kept: int,
    ) -> ThresholdSearch:
        """Search for the threshold; see `find_threshold` for the arguments."""


def find_threshold(
    score_many: ScoreMany,
    start: float = 0.5,
    step: float = 0.1,
    *,
    low: float = 0.0,
    high: float = 1.0,
    count: Callable[[float], int] | None = None,
    min_kept: int = 1,
) -> ThresholdSearch:
    """Find the threshold whose subset performs best, by the paper's greedy walk.

    The start is evaluated together with its two neighbours at distance ``step``. The search moves
    to the better neighbour as long as it is strictly better than the current threshold, and stops
    when neither is. On a curve with one peak this finds the best threshold of the grid
    (CLIP-VG, arXiv 2305.08685: modified binary search of SSA).

    Ties: a neighbour must be strictly better to be moved to (an equal one costs trainings and
    decides nothing); of two equally good neighbours the lower is taken, which keeps more labels.

    Args:
        score_many: performance at each of several thresholds, asked for as one batch so that
            they can be trained together; never asked for one threshold twice. None, NaN or -inf
            means that the threshold cannot be used.
        start: first threshold.
        step: distance between neighbours. Thresholds are ``start + k * step``, in decimals:
            0.3, never 0.30000000000000004.
        low: lowest threshold allowed.
        high: highest threshold allowed.
        count: number of labels that a threshold keeps, falling as the threshold rises. When given,
            thresholds that keep the same labels are evaluated once (the walk passes over them)
            and those that keep fewer than ``min_kept`` not at all.
        min_kept: smallest number of labels that a subset may have.

    Raises:
        InputError: the start is outside [low, high], the step is not positive, or no threshold
            can be used.

    Example:
        >>> find_threshold(lambda hs: [-(h - 0.7) ** 2 for h in hs]).best
        0.7
    """
    check_grid(start, step, low, high)
    return _Walk(score_many, start, step, (low, high), count, min_kept).run()


def or_least(score: float | None) -> float:
    """Return a score to compare by; -inf if it is None or NaN."""
    return _UNUSABLE if score is None or math.isnan(score) else float(score)


def check_grid(start: float, step: float, low: float, high: float) -> None:
    """Refuse a start outside [low, high], and a step that is not a finite number above 0."""
    if not 0 < step < math.inf:
        raise InputError(f"threshold step is {step}; expected a finite number above 0, e.g. 0.1.")
    if not low <= start <= high:
        raise InputError(
            f"start threshold {start} is outside [{low}, {high}]; choose a start between the "
            "bounds."
        )


@dataclass
class _Walk:
    """State of one search; thresholds are integers k of ``start + k * step``."""

    score_many: ScoreMany
    start: float
    step: float
    bounds: tuple[float, float]
    count: Callable[[float], int] | None
    min_kept: int
    scores: dict[int, float] = field(default_factory=dict)
    evaluated: dict[int, int] = field(default_factory=dict)  # number of labels kept -> k
    batches: list[list[float]] = field(default_factory=list)
    skipped: dict[float, str] = field(default_factory=dict)

    def run(self) -> ThresholdSearch:
        """Walk to the best threshold."""
        here = self._first()
        while True:
            down, up = self._neighbour(here, -1), self._neighbour(here, +1)
            self._evaluate([k for k in (down, here, up) if k is not None])
            score = self.scores[here]
            usable = [k for k in (down, up) if k is not None and self.scores[k] > score]
            if usable:
                # max() keeps the first of equals: the lower neighbour.
                here = max(usable, key=lambda k: self.scores[k])
            elif score == _UNUSABLE and down is not None:
                here = down  # a lower threshold keeps more labels
            else:
                break
        if self.scores[here] == _UNUSABLE:
            raise InputError(
                f"no threshold at or below {self._value(here)} gave a usable subset; "
                "lower the start or add labels."
            )
        return self._result(here, down, up)

    def _value(self, k: int) -> float:
        return float(Decimal(str(self.start)) + k * Decimal(str(self.step)))

    def _inside(self, k: int) -> bool:
        return self.bounds[0] <= self._value(k) <= self.bounds[1]

    def _num_kept(self, k: int) -> int | None:
        return None if self.count is None else int(self.count(self._value(k)))

    def _too_few(self, k: int) -> bool:
        num = self._num_kept(k)
        if num is None or num >= self.min_kept:
            return False
        self.skipped[self._value(k)] = f"keeps {num} label(s), fewer than {self.min_kept}"
        return True

    def _first(self) -> int:
        k = 0
        while self._too_few(k):
            k -= 1
            if not self._inside(k):
                raise InputError(
                    f"no threshold from {self.bounds[0]} to {self._value(0)} keeps at least "
                    f"{self.min_kept} label(s); add labels or lower min_kept."
                )
        return k

    def _neighbour(self, k: int, direction: int) -> int | None:
        """Return the nearest usable grid point with another subset, or None."""
        here, k = k, k + direction
        while self._inside(k):
            if self._too_few(k):
                return None
            num = self._num_kept(k)
            if num is None:
                return k
            if num != self._num_kept(here):
                return self.evaluated.get(num, k)
            if k not in self.scores:
                same = f"keeps the same {num} labels as {self._value(here)}"
                self.skipped.setdefault(self._value(k), same)
            k += direction
        return None

    def _evaluate(self, wanted: list[int]) -> None:
        missing = [k for k in wanted if k not in self.scores]
        if not missing:
            return
        thresholds = [self._value(k) for k in missing]
        scores = list(self.score_many(thresholds))
        if len(scores) != len(missing):
            raise ValueError(f"score_many gave {len(scores)} scores for {len(missing)} thresholds")
        self.batches.append(thresholds)
        for k, score in zip(missing, scores, strict=True):
            self.scores[k] = or_least(score)
            if (num := self._num_kept(k)) is not None:
                self.evaluated[num] = k

    def _result(self, here: int, down: int | None, up: int | None) -> ThresholdSearch:
        curve = [
            (self._value(k), None if score == _UNUSABLE else score)
            for k, score in sorted(self.scores.items())
        ]
        sides = [
            f"{name} {self._value(k)} is not better" if k is not None else f"there is no {name}"
            for name, k in (("lower threshold", down), ("higher threshold", up))
        ]
        skipped = dict(sorted(self.skipped.items()))
        return ThresholdSearch(
            best=self._value(here),
            score=self.scores[here],
            curve=curve,
            batches=self.batches,
            skipped=skipped,
            reason=" and ".join(sides),
        )
