"""Learning dynamics by hand and against plain loops."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.one_label import written

from clipvg.errors import InputError
from clipvg.measures import (
    ErrorRate,
    Forgetting,
    LearningTime,
    LossMean,
    LossVariance,
)
from clipvg.reliability import Context, measure

NAN = np.nan
# Columns: learned at once; never; forgotten twice; learned late; visited twice; never visited.
LOSSES = np.array(
    [
        [0.1, 0.9, 0.1, 0.9, NAN, NAN],
        [0.1, 0.9, 0.9, 0.9, 0.9, NAN],
        [0.1, 0.9, 0.1, 0.1, NAN, NAN],
        [0.1, 0.9, 0.9, 0.1, 0.1, NAN],
    ]
)
KINDS = [LossMean, LossVariance, Forgetting, ErrorRate, LearningTime]


def scored(kind: Any, losses: np.ndarray = LOSSES, **options: Any) -> np.ndarray:
    count = losses.shape[1]
    labels = written(["x"] * count, [[0, 0, 1, 1]] * count)
    return measure(kind(**options), labels, Context(history=losses)).values


def test_loss_mean() -> None:
    found = scored(LossMean, scale=0.5)
    means = [0.1, 0.9, 0.5, 0.5, 0.5, NAN]
    np.testing.assert_allclose(found, 2 ** (-np.array(means) / 0.5), rtol=1e-6)
    late = scored(LossMean, scale=0.5, last=1)
    np.testing.assert_allclose(late[:5], 2 ** (-np.array([0.1, 0.9, 0.9, 0.1, 0.1]) / 0.5))
    # A label that was not visited in the last epochs is judged by all epochs.
    once = scored(LossMean, np.array([[0.2, 0.2], [NAN, 0.4]]), scale=1.0, last=1)
    np.testing.assert_allclose(once, [2**-0.2, 2**-0.4], rtol=1e-6)


def test_the_common_fall_of_the_loss_is_no_variance() -> None:
    falling = np.array([[4.0, 5.0, 6.0], [2.0, 3.0, 4.0], [1.0, 2.0, 3.0]])
    assert (scored(LossVariance, falling) == 1).all()
    swinging = falling.copy()
    swinging[1, 0] += 3
    found = scored(LossVariance, swinging)
    assert found.argmin() == 0
    level = swinging.mean(axis=1, keepdims=True)
    deviation = (swinging - level).std(axis=0)
    np.testing.assert_allclose(found, 2 ** (-deviation / np.median(deviation)), rtol=1e-6)


def test_forgetting() -> None:
    # Events: 0, never learned, 2 (learned, not, learned, not), 0, 0; two are possible in 4 visits.
    found = scored(Forgetting, threshold=0.5)
    np.testing.assert_allclose(found, [1, 0, 0, 1, 1, NAN])
    once = scored(Forgetting, np.array([[0.1], [0.9], [0.1], [0.1]]), threshold=0.5)
    assert once.tolist() == [0.5]


def test_error_rate() -> None:
    np.testing.assert_allclose(scored(ErrorRate, threshold=0.5), [1, 0, 0.5, 0.5, 0.5, NAN])


def test_learning_time() -> None:
    # Visits for which it stays learned: all 4, none, none (the last is missed), 2 of 4, 1 of 2.
    np.testing.assert_allclose(scored(LearningTime, threshold=0.5), [1, 0, 0, 0.5, 0.5, NAN])


def test_random_histories_equal_loops() -> None:
    rng = np.random.default_rng(0)
    losses = rng.random((9, 200))
    losses[rng.random(losses.shape) < 0.2] = NAN
    forgetting, error, time = (
        scored(kind, losses, threshold=0.4) for kind in (Forgetting, ErrorRate, LearningTime)
    )
    for column in range(200):
        visits = losses[~np.isnan(losses[:, column]), column] <= 0.4
        events = sum(a and not b for a, b in pairwise(visits))
        expected = 1 - events / max(len(visits) // 2, 1) if visits.any() else 0
        assert forgetting[column] == pytest.approx(expected)
        assert error[column] == pytest.approx(visits.mean())
        stays = 0
        while stays < len(visits) and visits[len(visits) - 1 - stays]:
            stays += 1
        assert time[column] == pytest.approx(stays / len(visits))


@pytest.mark.parametrize("kind", KINDS)
def test_unvisited_labels_are_not_scored_and_say_so(kind: Any) -> None:
    labels = written(["x"] * 6, [[0, 0, 1, 1]] * 6)
    context = Context(history=LOSSES.astype(np.float16))
    scores = measure(kind(), labels, context)
    found = scores.values
    assert np.flatnonzero(np.isnan(found)).tolist() == [5]
    assert scores.reasons == {5: f"{kind().name}: no epoch visited this label"}
    assert found[0] >= np.nanmax(found) - 1e-6  # learned at once and never forgotten


@pytest.mark.parametrize("kind", KINDS)
def test_history_from_a_training_folder(kind: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "history.npy", LOSSES.astype(np.float32))
    labels = written(["x"] * 6, [[0, 0, 1, 1]] * 6)
    expected = measure(kind(), labels, Context(history=LOSSES.astype(np.float32))).values
    for place in (tmp_path, tmp_path / "history.npy"):
        reader = kind(history=place)
        assert reader.requires == frozenset()
        np.testing.assert_array_equal(measure(reader, labels, Context()).values, expected)


def test_history_from_lists() -> None:
    labels = written(["x"] * 6, [[0, 0, 1, 1]] * 6)
    expected = measure(LossMean(), labels, Context(history=LOSSES)).values
    for history in (LOSSES.tolist(), list(LOSSES)):
        found = measure(LossMean(history=history), labels, Context()).values
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(InputError, match="epochs differ in length"):
        LossMean(history=[[0.5, 1.0], [0.5]])


def test_errors_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="requires history"):
        measure(LossMean(), written(["x"], [[0, 0, 1, 1]]), Context())
    with pytest.raises(InputError, match=r"shape \(4, 6\) for 1 labels"):
        measure(LossMean(), written(["x"], [[0, 0, 1, 1]]), Context(history=LOSSES))
    with pytest.raises(InputError, match=r"expected the history\.npy"):
        LossMean(history=tmp_path)
    (tmp_path / "history.npy").write_text("no")
    with pytest.raises(InputError, match=r"not a \.npy file"):
        LossMean(history=tmp_path)
    with pytest.raises(InputError, match="last is 0"):
        LossMean(last=0)
