"""Measures that need nothing but the labels, against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.one_label import written

from clipvg.boxes import iou
from clipvg.errors import InputError
from clipvg.labels import LabelTable, pairs
from clipvg.labels.pairs import WordSets, pairs_within, plain
from clipvg.measures import Ambiguity, Consistency, Hygiene, NoiseLevel
from clipvg.reliability import Context, ScoreMatrix, measure

DOG, CAT = [0, 0, 10, 10], [50, 50, 70, 70]


def random_labels(rng: np.random.Generator, count: int = 40) -> LabelTable:
    corners = rng.uniform(0, 20, (count, 2))
    return written(
        [
            " ".join(rng.choice(["red", "dog", "cat", "left"], rng.integers(0, 4)))
            for _ in range(count)
        ],
        np.concatenate([corners, corners + rng.uniform(5, 20, (count, 2))], axis=1).tolist(),
        [f"{i}.jpg" for i in rng.integers(0, 5, count)],
        source=[str(s) for s in rng.choice(["a", "b"], count)],
    )


def test_ambiguity_by_hand() -> None:
    labels = written(
        ["red dog", "Red dog.", "red dog", "red dog", "cat", "red  dog"],
        [DOG, CAT, [0, 0, 10, 11], CAT, DOG, DOG],
        ["a", "a", "a", "a", "a", "b"],
    )
    scores = measure(Ambiguity(), labels, Context()).values
    np.testing.assert_allclose(scores, [0.5, 0.5, 0.5, 0.5, 1, 1])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.sampled_from([1, 7, 10**6]))
def test_ambiguity_and_consistency_equal_loops(seed: int, block: int) -> None:
    labels = random_labels(np.random.default_rng(seed))
    whole, pairs.PAIRS_PER_BLOCK = pairs.PAIRS_PER_BLOCK, block
    try:
        ambiguity = measure(Ambiguity(iou=0.3), labels, Context()).values
        consistency = measure(Consistency(similar=0.4, across=True), labels, Context()).values
    finally:
        pairs.PAIRS_PER_BLOCK = whole
    boxes, names, sources = labels.boxes(), labels.image_names, labels.sources()
    texts = [plain(text) for text in labels.expressions]
    for i in range(len(labels)):
        same = [j for j in range(len(labels)) if (names[j], texts[j]) == (names[i], texts[i])]
        agree = [j == i or iou(boxes[i], boxes[j]) >= 0.3 for j in same]
        assert ambiguity[i] == pytest.approx(np.mean(agree))
        total = weight = 0.0
        for j in range(len(labels)):
            a, b = set(texts[i].split()), set(texts[j].split())
            alike = len(a & b) / len(a | b) if a | b else 0
            if j != i and names[i] == names[j] and sources[i] != sources[j] and alike >= 0.4:
                weight += alike
                total += alike * float(iou(boxes[i], boxes[j]))
        if weight:
            assert consistency[i] == pytest.approx(total / weight, abs=1e-5)
        else:
            assert np.isnan(consistency[i])


def test_consistency_says_who_is_alone() -> None:
    labels = written(["red dog", "red dog here", "bus"], [DOG, DOG, CAT])
    scores = measure(Consistency(), labels, Context())
    np.testing.assert_array_equal(scores.values, np.float32([1, 1, np.nan]))
    assert scores.reasons == {2: "consistency: no other label with similar words"}


def test_word_overlap_by_hand() -> None:
    sets = WordSets(["red dog", "Dog, red!", "dog", "", "man's dog"])
    i, j = np.array([0, 0, 0, 3, 2]), np.array([1, 2, 3, 3, 4])
    np.testing.assert_allclose(sets.jaccard(i, j), [1, 0.5, 0, 0, 0.5])


def test_pairs_are_those_of_a_group() -> None:
    found = [np.stack(part, axis=1) for part in pairs_within(np.array([2, 0, 2, 2, 1]))]
    got = {tuple(pair) for part in found for pair in part.tolist()}
    assert got == {(0, 2), (0, 3), (2, 0), (2, 3), (3, 0), (3, 2)}


def test_hygiene_by_hand() -> None:
    labels = written(
        ["dog", "half out", "dot", "strip", "dog", "?!", "empty", "outside", " ".join(["x"] * 50)],
        [
            [10, 10, 50, 50], [80, 10, 120, 50], [1, 1, 2, 2], [0, 0, 90, 5], [10, 10, 50, 50],
            [10, 10, 50, 50], [5, 5, 5, 9], [200, 200, 220, 220], [10, 10, 50, 50],
        ],
        width=[100] * 9, height=[100] * 9,
    )  # fmt: skip
    scores = measure(Hygiene(), labels, Context()).values
    # five rules: inside, area, aspect, words, first
    expected = [1, (0.5 + 4) / 5, 4 / 5, 4 / 5, 4 / 5, 0, 0, 0, 4 / 5]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_hygiene_without_a_limit_of_aspect() -> None:
    labels = written(["thin"], [[0, 0, 100, 1]])
    assert measure(Hygiene(max_aspect=8.0), labels, Context()).values < 1
    assert measure(Hygiene(max_aspect=math.inf), labels, Context()).values == 1


def test_hygiene_leaves_out_rules_about_an_unknown_picture() -> None:
    labels = written(["dog", "strip"], [[0, 0, 9999, 9999], [0, 0, 90, 5]])
    np.testing.assert_allclose(measure(Hygiene(), labels, Context()).values, [1, 2 / 3])


def test_noise_level_is_the_clean_share_of_a_group() -> None:
    rng = np.random.default_rng(0)
    clean = np.concatenate([np.arange(400) < 360, np.arange(400) < 120])
    scores = np.where(clean, rng.beta(12, 3, 800), rng.beta(2, 14, 800))
    labels = written(["x"] * 800, [DOG] * 800, source=["good"] * 400 + ["bad"] * 400)
    matrix = ScoreMatrix(("m",), scores[None], labels.sources())
    found = measure(NoiseLevel(), labels, Context(scores=matrix)).values
    assert np.ptp(found[:400]) == 0
    assert found[0] == pytest.approx(0.9, abs=0.03)
    assert found[-1] == pytest.approx(0.3, abs=0.03)
    np.testing.assert_array_equal(
        measure(NoiseLevel(of="m"), labels, Context(scores=matrix)).values, found
    )


def test_errors_name_the_remedy() -> None:
    labels = written(["x"], [DOG])
    matrix = ScoreMatrix(("m",), np.array([[0.5]]))
    with pytest.raises(InputError, match="requires scores"):
        measure(NoiseLevel(), labels, Context())
    with pytest.raises(InputError, match="no column 'sourc' to group labels by"):
        measure(NoiseLevel(by="sourc"), labels, Context(scores=matrix))
    with pytest.raises(InputError, match="fuses 'n', which is not among the scores"):
        measure(NoiseLevel(of="n"), labels, Context(scores=matrix))
    with pytest.raises(InputError, match="iou is 2"):
        Ambiguity(iou=2)
    with pytest.raises(InputError, match=r"max_area is 0\.1"):
        Hygiene(min_area=0.2, max_area=0.1)
