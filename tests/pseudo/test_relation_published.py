"""The published relation rules: golden labels, and thresholds by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from clipvg.errors import InputError
from clipvg.pseudo.observation import Observation, Relation
from clipvg.pseudo.relation import published, relations_from_logits
from clipvg.pseudo.relation.graph import reltr_names
from clipvg.pseudo.sources import Options

DATA = Path(__file__).parents[1] / "data" / "pseudo"
CASES = json.loads((DATA / "relation_triplets.json").read_text())
VOCABULARY = json.loads((DATA / "relation_vocabulary.json").read_text())
PUBLISHED = Options(preset="published")


def observe(case: dict) -> Observation:
    outputs = case["outputs"]
    relations = relations_from_logits(
        [outputs[f"{role}_logits"] for role in ("sub", "rel", "obj")],
        [outputs[f"{role}_boxes"] for role in ("sub", "obj")],
        size=(case["width"], case["height"]),
    )
    return Observation(case["file"], case["width"], case["height"], relations=relations)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["rule"])
def test_golden_labels_in_order(case: dict) -> None:
    found = published(observe(case), PUBLISHED)
    assert [each.expression for each in found] == [words for words, _ in case["labels"]]
    wanted = np.array([box for _, box in case["labels"]]).reshape(-1, 4)
    boxes = np.array([each.box for each in found]).reshape(-1, 4)
    np.testing.assert_allclose(boxes, wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["rule"])
def test_golden_names_and_probabilities_of_every_query(case: dict) -> None:
    relations, wanted = observe(case).relations, case["queries"]
    for role in ("subject", "predicate", "object"):
        assert [getattr(each, role) for each in relations] == wanted[role]
    scores = np.array([each.scores for each in relations]).T
    probabilities = [wanted[f"{role}_prob"] for role in ("subject", "predicate", "object")]
    np.testing.assert_allclose(scores, probabilities, rtol=0, atol=1e-6)


def relation(*scores: float, predicate: str = "on") -> Relation:
    return Relation("cup", predicate, "table", (0, 0, 10, 10), (0, 5, 50, 50), tuple(scores))


def test_the_names_are_those_of_reltr() -> None:
    assert reltr_names() == {kind: VOCABULARY[kind] for kind in ("entities", "predicates")}


def test_one_fifth_is_not_enough() -> None:
    image = Observation("a.jpg", 60, 60, relations=(relation(0.9, 0.2, 0.9),))
    assert published(image, PUBLISHED) == []


def test_the_ten_best_products_come_first_and_equal_ones_keep_their_order() -> None:
    low = [relation(0.5, 0.5, 0.5, predicate=f"p{number}") for number in range(11)]
    image = Observation("a.jpg", 60, 60, relations=(*low, relation(0.9, 0.9, 0.3)))
    words = [each.expression for each in published(image, PUBLISHED)]
    assert words == ["cup on table", *(f"cup p{number} table" for number in range(9))]


def test_logits_of_another_vocabulary_are_refused() -> None:
    with pytest.raises(InputError, match="logits of 3 columns for 3 names"):
        relations_from_logits(
            [np.zeros((1, 3))] * 3,
            [np.zeros((1, 4))] * 2,
            size=(10, 10),
            entities=["a", "b", "c"],
            predicates=["on", "in", "at"],
        )
