"""Similarities of boxes, worked out by hand, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from clipvg.boxes import iou
from clipvg.errors import InputError
from clipvg.similarity import (
    SIMILARITIES,
    compare,
    compare_in_square,
    describe_similarity,
    find_similarity,
)

# Half overlapping, apart, the same, and one inside the other.
PREDICTED = np.array([[0, 0, 2, 2], [0, 0, 1, 1], [1, 1, 3, 5], [0, 0, 4, 4]], float)
GIVEN = np.array([[1, 0, 3, 2], [2, 0, 3, 1], [1, 1, 3, 5], [1, 1, 3, 3]], float)
# Overlap 2, 0, 8, 4; union 6, 2, 8, 16; hull 6, 3, 8, 16.
EXPECTED = {
    "iou": [1 / 3, 0, 1, 1 / 4],
    "giou": [(1 + 1 / 3) / 2, (1 - 1 / 3) / 2, 1, (1 + 1 / 4) / 2],
    "dice": [4 / 8, 0, 1, 8 / 20],
    # Centres are 1, 2, 0 and 0 apart; half a side of 2 is reached by six of ten tolerances.
    "pck": [0.6, 0, 1, 1],
}


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarities_are_those_worked_out_by_hand(name: str) -> None:
    np.testing.assert_allclose(compare(name, PREDICTED, GIVEN), EXPECTED[name], rtol=1e-6)
    assert compare(name, PREDICTED, GIVEN).dtype == np.float32
    empty = np.zeros((2, 4))
    assert np.isfinite(compare(name, empty, empty)).all()
    assert compare(name, PREDICTED[:0], GIVEN[:0]).shape == (0,)


def test_iou_is_that_of_the_package() -> None:
    expected = iou(PREDICTED, GIVEN).astype(np.float32)
    np.testing.assert_array_equal(compare("iou", PREDICTED, GIVEN), expected)


def test_where_there_is_no_box_there_is_no_similarity() -> None:
    predicted = PREDICTED.copy()
    predicted[1, 2] = np.nan
    assert np.isnan(compare("giou", predicted, GIVEN)).tolist() == [False, True, False, False]


def test_in_the_square_predictions_are_cut() -> None:
    half, given = np.array([[0.0, 0.5, 1.0, 1.0]]), np.array([[0.25, 0.5, 0.5, 1.0]])
    assert compare_in_square("dice", half, given) == 1


def test_one_of_your_own_is_a_function() -> None:
    def is_left(predicted: np.ndarray, given: np.ndarray) -> np.ndarray:
        return (predicted[:, 0] < given[:, 0]).astype(float)

    assert compare(is_left, PREDICTED, GIVEN).tolist() == [1, 1, 0, 1]
    assert find_similarity("clipvg.similarity:dice") is SIMILARITIES["dice"]
    assert describe_similarity("dice") == "Dice"
    assert describe_similarity("mine.boxes:corner") == "corner"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("giuo", "no similarity 'giuo': did you mean 'giou'"),
        ("nosuch.module:f", "cannot be imported"),
        ("clipvg.similarity:nosuch", "cannot be imported"),
        ("clipvg.similarity:TOLERANCES", "is not a function"),
    ],
)
def test_names_are_checked(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_similarity(name)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a, b: np.full(len(a), 1.5),
        lambda a, b: np.full(len(a), np.nan),
        lambda a, b: iou(a[:, None], b[None]),
        lambda a, b: iou(a, b)[:1],
    ],
)
def test_results_are_checked(wrong: object) -> None:
    with pytest.raises(InputError, match=r"expected \(4,\) numbers in \[0, 1\]"):
        compare(wrong, PREDICTED, GIVEN)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="predicted boxes have shape"):
        compare("iou", PREDICTED[:2], GIVEN)
