"""Reliability by similarities other than IoU, for models that predict boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.tiny import make_labels, make_model

import clipvg
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel
from clipvg.reliability import Context, GroundingMeasurer, score_labels
from clipvg.rescoring import Engine, EngineConfig, Plan
from clipvg.rescoring.store import measurer_key
from clipvg.similarity import compare_in_square
from clipvg.training import FeatureCache, predict_labels


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    return make_labels(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def model() -> GroundingModel:
    return make_model(trained_on=["template"])


@pytest.mark.parametrize("similarity", ["iou", "giou", "dice", "clipvg.similarity:dice"])
def test_a_pass_gives_the_similarity_of_predicted_boxes(
    model: GroundingModel, labels: LabelTable, similarity: str
) -> None:
    scores = clipvg.score(labels, {"m": model}, similarity=similarity)
    found = predict_labels(model, labels)
    expected = compare_in_square(similarity, found.boxes, found.target)
    assert expected.std() > 0.03
    np.testing.assert_allclose(scores["m"], expected, atol=2e-5)


def test_pck_is_one_of_eleven_numbers(model: GroundingModel, labels: LabelTable) -> None:
    scores = clipvg.score(labels, {"m": model}, similarity="pck")["m"]
    assert set(np.rint(10 * scores)) <= set(range(11))
    assert len(set(scores)) > 2


def test_the_histogram_counts_every_label_by_source(
    model: GroundingModel, labels: LabelTable
) -> None:
    engine = Engine({"a": model, "b": make_model(2)}, EngineConfig(similarity="giou"))
    (part,) = engine.stream(Plan(labels))
    assert engine.histogram.shape[:2] == (2, 2)
    assert engine.histogram.sum(-1).tolist() == [[10, 10]] * 2
    order = np.argsort(part.rows)
    for counts, row in zip(engine.histogram, part.scores[:, order], strict=True):
        expected = np.bincount((row * np.float32(1000)).astype(int).clip(max=999), minlength=1000)
        np.testing.assert_array_equal(counts.sum(0).numpy(), expected)


def test_a_measurer_may_have_its_own(model: GroundingModel, labels: LabelTable) -> None:
    measurers = {"iou": GroundingMeasurer(model), "dice": GroundingMeasurer(model)}
    measurers["dice"] = GroundingMeasurer(model, similarity="dice")
    both = score_labels(labels, measurers)
    np.testing.assert_array_equal(both["iou"], clipvg.score(labels, {"m": model})["m"])
    r = both["iou"]
    np.testing.assert_allclose(both["dice"], 2 * r / (1 + r), atol=1e-5)
    assert both.trained_on == (("template",),) * 2
    features = FeatureCache(model, labels)
    cached = GroundingMeasurer(model, features=features, similarity="dice")
    found = cached.measure(labels, Context()).values
    np.testing.assert_allclose(found, both["dice"], atol=2e-5)


def test_stores_keep_them_apart(model: GroundingModel, labels: LabelTable, tmp_path: Path) -> None:
    configs = [EngineConfig(), EngineConfig(similarity="iou"), EngineConfig(similarity="giou")]
    keys = [measurer_key(model, config, model.device) for config in configs]
    assert keys[0] == keys[1] != keys[2]
    for similarity in ("iou", "giou", "iou"):
        kept = clipvg.score(labels, {"m": model}, similarity=similarity, store=tmp_path / "store")
        fresh = clipvg.score(labels, {"m": model}, similarity=similarity)
        np.testing.assert_array_equal(kept["m"], fresh["m"])


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'dice'"):
        EngineConfig(similarity="dize")
