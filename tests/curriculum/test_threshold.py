"""The greedy threshold search."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipvg.curriculum import find_threshold
from clipvg.errors import InputError

GRID = [h / 10 for h in range(11)]


def curve(values: Sequence[float | None]) -> Callable[[Sequence[float]], list[float | None]]:
    """Scores by position on the grid 0.0, 0.1, ..., 1.0; a threshold off the grid is an error."""
    return lambda thresholds: [values[GRID.index(h)] for h in thresholds]


def peak(at: float) -> list[float]:
    return [-abs(h - at) for h in GRID]


def test_walks_up_and_asks_for_what_it_needs_next() -> None:
    search = find_threshold(curve(peak(0.7)))
    assert search.best == 0.7
    assert search.batches == [[0.4, 0.5, 0.6], [0.7], [0.8]]
    assert [h for h, _ in search.curve] == [0.4, 0.5, 0.6, 0.7, 0.8]
    assert search.num_evaluations == 5
    assert "not better" in search.reason


def test_stops_at_once_when_the_start_beats_both() -> None:
    search = find_threshold(curve(peak(0.5)))
    assert (search.best, search.num_evaluations) == (0.5, 3)


def test_bounds_end_the_walk() -> None:
    up, down = find_threshold(curve(GRID)), find_threshold(curve([-h for h in GRID]))
    assert (up.best, down.best) == (1.0, 0.0)
    assert "no higher" in up.reason
    assert "no lower" in down.reason
    assert find_threshold(curve(GRID), high=0.8).best == 0.8


def test_thresholds_are_exact_decimals() -> None:
    asked: list[float] = []
    find_threshold(lambda hs: [asked.append(h) or h for h in hs], 0.05, 0.05)
    assert asked == [round(0.05 * k, 2) for k in (0, 1, 2, *range(3, 21))]


def test_ties_stay_and_prefer_the_lower() -> None:
    assert find_threshold(curve([1.0] * 11)).best == 0.5
    values = [0.0] * 11
    values[4] = values[6] = 1.0
    assert find_threshold(curve(values)).best == 0.4


@settings(deadline=None)
@given(st.integers(0, 10), st.integers(0, 10), st.lists(st.floats(0.01, 5), min_size=10))
def test_a_single_peak_is_found(top: int, start: int, drops: list[float]) -> None:
    values = [0.0] * 11
    for i in range(top - 1, -1, -1):
        values[i] = values[i + 1] - drops[i % len(drops)]
    for i in range(top + 1, 11):
        values[i] = values[i - 1] - drops[i % len(drops)]
    asked: list[float] = []

    def score_many(thresholds: Sequence[float]) -> list[float | None]:
        asked.extend(thresholds)
        return curve(values)(thresholds)

    search = find_threshold(score_many, GRID[start])
    assert search.best == GRID[top]
    assert len(asked) == len(set(asked)) == search.num_evaluations
    assert search.num_evaluations <= abs(top - start) + 3


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=11, max_size=11))
def test_any_curve_ends_on_a_local_maximum(values: list[float | None]) -> None:
    try:
        search = find_threshold(curve(values))
    except InputError:
        assert all(value is None for value in values[:7])
        return
    here = GRID.index(search.best)
    assert search.score == values[here]
    for side in (here - 1, here + 1):
        if 0 <= side <= 10 and values[side] is not None:
            assert values[side] <= search.score


@pytest.mark.parametrize("bad", [None, math.nan, -math.inf])
def test_an_unusable_threshold_is_never_chosen(bad: float | None) -> None:
    values: list[float | None] = [0.1, 0.2, 0.3, 0.2, *[bad] * 7]
    search = find_threshold(curve(values))
    assert search.best == 0.2
    assert dict(search.curve)[0.5] is None


def test_equal_subsets_are_evaluated_once_and_passed_over() -> None:
    scores = np.array([0.2, 0.45, 0.9], dtype=np.float32)

    def count(h: float) -> int:
        return int((scores >= h).sum())

    # 0.5 ... 0.9 keep one label, 0.3 and 0.4 two, 0.2 and below three.
    by_count = {1: 0.5, 2: 0.8, 3: 0.6, 0: None}
    search = find_threshold(lambda hs: [by_count[count(h)] for h in hs], count=count)
    assert search.best == 0.4
    assert search.num_evaluations == 3
    assert search.skipped[0.6] == "keeps the same 1 labels as 0.5"
    assert "fewer than 1" in search.skipped[1.0]


def test_a_start_that_keeps_too_few_moves_down() -> None:
    count = {h: 10 - i for i, h in enumerate(GRID)}.__getitem__
    search = find_threshold(curve(GRID), 0.8, count=count, min_kept=5)
    assert search.best == 0.5
    assert "keeps 4 label(s), fewer than 5" in search.skipped.values()


def test_nothing_usable_is_an_error() -> None:
    with pytest.raises(InputError, match="at least 1 label"):
        find_threshold(curve(GRID), count=lambda h: 0)
    with pytest.raises(InputError, match="usable"):
        find_threshold(curve([None] * 11))


@pytest.mark.parametrize(
    ("start", "step"),
    [(1.5, 0.1), (-0.1, 0.1), (math.nan, 0.1), (0.5, 0.0), (0.5, -0.1), (0.5, math.inf)],
)
def test_senseless_options_are_refused(start: float, step: float) -> None:
    with pytest.raises(InputError):
        find_threshold(curve(GRID), start, step)
