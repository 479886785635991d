"""Two processes score and measure as one: in memory and with a store."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from support.processes import as_two
from support.tiny import make_labels, make_model
from support.two_processes import METHODS

from clipvg.labels import LabelTable
from clipvg.measures.specs import build_measures
from clipvg.reliability import ScoreMatrix, score_labels

WAYS = {"memory": 1e-6, "store": 1e-6, "again": 1e-6, "measures": 1e-5}


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    folder = tmp_path_factory.mktemp("images")
    labels = make_labels(folder, 9)
    (folder / labels.image_names[3]).write_bytes(b"not an image")
    labels.write(folder / "labels.parquet")
    return labels


@pytest.fixture(scope="module")
def together(labels: LabelTable) -> list[dict[str, Any]]:
    """Scores, reasons and refusals of both processes."""
    folder = labels.image_path("")
    codes, _, err = as_two("support.two_processes:score", folder)
    assert codes == [0, 0], err
    found = []
    for rank in (0, 1):
        reasons, refused = json.loads((folder / f"{rank}.json").read_text())
        scores = np.load(folder / f"{rank}.npz")
        found.append({"scores": scores, "reasons": reasons, "refused": refused})
    return found


@pytest.fixture(scope="module")
def alone(labels: LabelTable) -> ScoreMatrix:
    """Scores by two models, then by the measures, in one process."""
    models = {"a": make_model(1), "b": make_model(2)}
    return score_labels(labels, {**models, **build_measures(METHODS, models)})


@pytest.mark.parametrize("way", WAYS)
def test_both_get_all_scores(together: list[dict[str, Any]], alone: ScoreMatrix, way: str) -> None:
    expected = alone if way == "measures" else alone.select(["a", "b"])
    assert np.isnan(expected.scores).any()
    for process in together:
        scores = process["scores"][way]
        np.testing.assert_array_equal(np.isnan(scores), np.isnan(expected.scores))
        np.testing.assert_allclose(scores, expected.scores, atol=WAYS[way])
        assert dict(map(tuple, process["reasons"][way])) == expected.reasons


def test_both_processes_raise_what_one_meets(
    labels: LabelTable, together: list[dict[str, Any]]
) -> None:
    for process in together:
        assert len(process["refused"]) == 4
        for message in process["refused"]:
            assert labels.image_names[3] in message


def test_both_have_equal_bytes(together: list[dict[str, Any]]) -> None:
    one, two = (process["scores"] for process in together)
    for way in WAYS:
        assert one[way].tobytes() == two[way].tobytes()
