"""Bins, counts and thresholds of reliability."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipvg.errors import InputError
from clipvg.reliability import Distribution, histogram, kept

SCORES = st.lists(
    st.one_of(st.floats(0, 1, width=32), st.just(float("nan")), st.sampled_from([0.1, 0.7, 0.8])),
    max_size=60,
)


def test_bins_are_closed_below_and_the_last_above() -> None:
    scores = [0.0, 0.25, 0.4999, 0.5, 0.75, 1.0, np.nan]
    assert histogram(scores, bins=4).tolist() == [1, 2, 1, 2]


def test_empty_and_unscored_labels_are_in_no_bin() -> None:
    assert histogram([], bins=3).tolist() == [0, 0, 0]
    distribution = Distribution([np.nan, np.nan])
    assert (len(distribution), distribution.num_unscored) == (0, 2)
    assert distribution.count_above(0.0) == 0
    assert np.isnan(distribution.quantiles()).all()
    json.dumps(distribution.to_dict(), allow_nan=False)


def test_float32_scores_meet_double_thresholds() -> None:
    # float32(0.8) is above the double 0.8, float32(0.7) below its double.
    above = [h / 10 for h in range(1, 10) if kept([h / 10], h / 10, strict=True)[0]]
    assert above == [0.1, 0.2, 0.3, 0.4, 0.6, 0.8]
    assert not kept([0.7], 0.7)[0]
    assert kept([0.5], 0.5)[0]
    assert not kept([0.5], 0.5, strict=True)[0]


@settings(deadline=None)
@given(SCORES, st.one_of(st.floats(-0.5, 1.5), st.sampled_from([0.1, 0.3, 0.7, 0.8, 1.0])))
def test_counts_equal_the_mask(scores: list[float], threshold: float) -> None:
    distribution = Distribution(scores)
    for strict in (False, True):
        expected = int(kept(scores, threshold, strict=strict).sum())
        assert distribution.count_above(threshold, strict=strict) == expected


@settings(deadline=None)
@given(SCORES, st.integers(1, 50))
def test_histogram_counts_every_scored_label_once(scores: list[float], bins: int) -> None:
    counts = histogram(scores, bins)
    assert counts.sum() == np.sum(~np.isnan(np.array(scores, dtype=np.float32)))
    assert (Distribution(scores).histogram(bins) == counts).all()


def test_quantiles_and_mean() -> None:
    distribution = Distribution([1.0, 0.0, np.nan, 0.5])
    assert distribution.quantiles([0, 0.5, 1]).tolist() == [0.0, 0.5, 1.0]
    assert distribution.mean() == 0.5


@pytest.mark.parametrize("bad", [1.5, -0.1, np.inf])
def test_scores_outside_the_range_are_named(bad: float) -> None:
    with pytest.raises(InputError, match="row 1"):
        histogram([0.5, bad])


def test_bins_below_one_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        histogram([0.5], bins=0)
