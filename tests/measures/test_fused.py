"""Fusion of measures by hand; mixtures against a known posterior."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, rankdata
from support.one_label import written

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.measures import (
    Cascade,
    MixtureCalibration,
    RankMean,
    Vote,
    WeightedMean,
)
from clipvg.measures.fusion import mixture
from clipvg.measures.fusion.measures import competence
from clipvg.measures.fusion.mixture import clean_probability
from clipvg.reliability import Context, ScoreMatrix, Scores, measure

NAN = np.nan
ROWS = np.array([[0.9, 0.2, NAN, 0.5], [0.5, 0.4, 0.6, NAN], [0.1, 0.6, NAN, NAN]])


class Constant:
    """A measure with given values that records the rows it was asked about."""

    requires: frozenset[str] = frozenset()

    def __init__(self, values: list[float], name: str) -> None:
        self.values, self.name, self.asked = np.array(values), name, []

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        rows = [int(text) for text in labels.expressions]
        self.asked.append(rows)
        return Scores(self.values[rows].astype(np.float32))


def numbered(count: int = 4) -> LabelTable:
    return written([str(i) for i in range(count)], [[0, 0, 1, 1]] * count)


def context(rows: np.ndarray = ROWS) -> Context:
    return Context(scores=ScoreMatrix(tuple("abc"[: len(rows)]), rows))


def test_weighted_mean() -> None:
    found = measure(WeightedMean(), numbered(), context()).values
    np.testing.assert_allclose(found, [0.5, 0.4, 0.6, 0.5], rtol=1e-6)
    found = measure(WeightedMean(["c", "a"], weights=[1, 3]), numbered(), context()).values
    np.testing.assert_allclose(found, [0.7, 0.3, NAN, 0.5], rtol=1e-6)
    named = WeightedMean(["c", "a"], weights={"a": 3, "c": 1})
    np.testing.assert_array_equal(measure(named, numbered(), context()).values, found)


def test_geometric_mean() -> None:
    found = measure(WeightedMean(weights=[2, 1, 1], geometric=True), numbered(), context()).values
    expected = [(0.9**2 * 0.5 * 0.1) ** 0.25, (0.2**2 * 0.4 * 0.6) ** 0.25, 0.6, 0.5]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    zeros = context(np.array([[0.0, 0.0], [0.2, 0.8]]))
    low, high = measure(WeightedMean(geometric=True), numbered(2), zeros).values
    assert 0 < low < high < 1e-3


def test_rank_mean() -> None:
    found = measure(RankMean(["a", "b"]), numbered(), context()).values
    a = rankdata([0.9, 0.2, 0.5]) / 3
    b = rankdata([0.5, 0.4, 0.6]) / 3
    expected = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2, b[2], a[2]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_rank_mean_does_not_see_the_scale() -> None:
    cubed = ROWS.copy()
    cubed[0] **= 3
    found = measure(RankMean(), numbered(), context(cubed)).values
    np.testing.assert_array_equal(found, measure(RankMean(), numbered(), context()).values)


def test_vote() -> None:
    found = measure(Vote(), numbered(), context()).values
    np.testing.assert_allclose(found, [2 / 3, 1 / 3, 1, 1], rtol=1e-6)
    strict = measure(
        Vote(threshold=[0.95, 0.4, 0.1], weights=[2, 1, 1]), numbered(), context()
    ).values
    np.testing.assert_allclose(strict, [0.5, 0.5, 1, 0], rtol=1e-6)


def test_competence_weighs_by_agreement_with_the_others() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(5000) < 0.5
    right = [0.95, 0.8, 0.8, 0.5]
    votes = np.stack([np.where(rng.random(5000) < p, truth, ~truth) for p in right]).astype(float)
    votes[3, ::7] = NAN
    weights = competence(votes)
    assert weights[0] > weights[1] > 5 * weights[3]
    # The first voter against the majority of the others, where a tie counts half.
    others = np.sign(np.nan_to_num(np.delete(votes, 0, axis=0) * 2 - 1).sum(0))
    agree = np.where(others == 0, 0.5, (others > 0) == (votes[0] > 0)).mean()
    assert weights[0] == pytest.approx(np.log(agree / (1 - agree)))
    matrix = Context(scores=ScoreMatrix(tuple("abcd"), votes))
    plain = measure(Vote(), numbered(5000), matrix).values
    weighted = measure(Vote(weights="competence"), numbered(5000), matrix).values
    assert ((weighted >= 0.5) == truth).mean() > ((plain >= 0.5) == truth).mean()


def test_cascade_asks_later_stages_about_open_labels_only() -> None:
    first = Constant([0.9, 0.5, NAN, 0.1], "first")
    second = Constant([0.0, 0.6, 0.7, 0.0], "second")
    last = Constant([0.0, 0.95, NAN, 0.0], "last")
    found = measure(Cascade([first, second, last]), numbered(), Context()).values
    np.testing.assert_allclose(found, [0.9, 0.95, 0.7, 0.1], rtol=1e-6)
    assert (first.asked, second.asked, last.asked) == ([[0, 1, 2, 3]], [[1, 2]], [[1, 2]])


def test_cascade_of_columns_and_measures() -> None:
    # Column a decides labels 0 and 1, does not score 2, and leaves 3 open.
    stage = Constant([0, 0, 0.3, 0.4], "stage")
    cascade = Cascade(["a", stage])
    assert cascade.requires == {"scores"}
    found = measure(cascade, numbered(), context()).values
    np.testing.assert_allclose(found, [0.9, 0.2, 0.3, 0.4], rtol=1e-6)
    assert stage.asked == [[2, 3]]


def test_inputs_may_be_measures() -> None:
    fused = WeightedMean([Constant([0.2] * 4, "x"), Constant([0.4] * 4, "y")])
    assert fused.requires == frozenset()
    np.testing.assert_allclose(measure(fused, numbered(), Context()).values, 0.3, rtol=1e-6)


def test_mixture_recovers_the_posterior() -> None:
    rng = np.random.default_rng(0)
    clean = rng.random(20_000) < 0.7
    scores = np.where(clean, rng.beta(9, 3, 20_000), rng.beta(2, 8, 20_000))
    upper = 0.7 * beta.pdf(scores, 9, 3)
    expected = upper / (upper + 0.3 * beta.pdf(scores, 2, 8))
    found = clean_probability(scores)
    assert np.abs(found - expected).max() < 0.05
    assert found.mean() == pytest.approx(0.7, abs=0.01)
    order = np.argsort(scores)
    assert (np.diff(found[order]) >= 0).all()


def test_a_spike_at_zero_is_a_component() -> None:
    """IoU of wrong labels is often exactly 0."""
    rng = np.random.default_rng(0)
    scores = np.concatenate([np.zeros(300), rng.uniform(0, 0.4, 100), rng.beta(8, 2, 600)])
    found = clean_probability(scores)
    assert found[:300].max() < 0.01
    assert found.mean() == pytest.approx(0.6, abs=0.06)


def test_a_large_table_is_fitted_by_its_quantiles(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.beta(2, 8, 20_000), rng.beta(9, 3, 40_000)])
    part = clean_probability(scores)
    monkeypatch.setattr(mixture, "_MOST", 10**6)
    np.testing.assert_allclose(clean_probability(scores), part, atol=0.01)


def test_mixtures_by_source_have_thresholds_of_their_own() -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.beta(8, 20, 300), rng.beta(2, 60, 100), rng.beta(30, 3, 300),
                             rng.beta(10, 10, 100)])  # fmt: skip
    labels = written(["x"] * 800, [[0, 0, 1, 1]] * 800, source=["hard"] * 400 + ["easy"] * 400)
    wanted = Context(scores=ScoreMatrix(("m",), scores[None]))
    clean = np.r_[np.ones(300), np.zeros(100), np.ones(300), np.zeros(100)].astype(bool)
    by = measure(MixtureCalibration(by="source"), labels, wanted).values
    whole = measure(MixtureCalibration("m"), labels, wanted).values
    assert ((by >= 0.5) == clean).mean() > 0.95
    assert ((whole >= 0.5) == clean).mean() < 0.75


def test_what_cannot_be_split_is_returned_as_it_is() -> None:
    few = np.array([0.1, NAN, 0.9])
    np.testing.assert_array_equal(clean_probability(few), few)
    np.testing.assert_array_equal(clean_probability(np.full(20, 0.4)), np.full(20, 0.4))
    # A small group is calibrated on all labels.
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.beta(20, 3, 200), rng.beta(3, 20, 200)])
    group = np.zeros(400, dtype=np.int64)
    group[:4] = 1
    np.testing.assert_allclose(clean_probability(scores, group)[:4], 1, atol=0.05)


@pytest.mark.parametrize("kind", [WeightedMean, RankMean, Vote, MixtureCalibration])
def test_nothing_scored_stays_unscored(kind: Any) -> None:
    rows = np.full((2, 4), NAN)
    assert np.isnan(measure(kind(), numbered(), context(rows)).values).all()


@pytest.mark.parametrize(
    ("fused", "message"),
    [
        (WeightedMean(["a", "x"]), "fuses 'x', which is not among the scores"),
        (WeightedMean(weights=[1, 2]), r"weights \[1.0, 2.0\] for \['a', 'b', 'c'\]"),
        (WeightedMean(weights=[0, 0, 0]), "not all 0"),
        (WeightedMean(weights={"a": 1}), "give each input one weight"),
        (Vote(threshold=[0.1, 0.2]), "2 thresholds for 3 inputs"),
    ],
)
def test_errors_at_measuring(fused: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure(fused, numbered(), context())


def test_errors_at_making() -> None:
    with pytest.raises(InputError, match="requires scores"):
        measure(Vote(), numbered(), Context())
    with pytest.raises(InputError, match="1 stage"):
        Cascade(["a"])
    with pytest.raises(InputError, match=r"high is 0\.1"):
        Cascade(["a", "b"], low=0.5, high=0.1)
    with pytest.raises(InputError, match=r"weights is 'best', expected .* or 'competence'"):
        Vote(weights="best")
    with pytest.raises(InputError, match="threshold is 3"):
        Vote(threshold=3)
    with pytest.raises(InputError, match="given no inputs"):
        WeightedMean([])
