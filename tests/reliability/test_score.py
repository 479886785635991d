"""score_labels: the engine against one label at a time, robustness, measurers of all kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny import WORDS, make_labels, make_model, one_by_one

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel
from clipvg.model.backbone import Backbone
from clipvg.model.fast import towers
from clipvg.reliability import Context, GroundingMeasurer, ScoreMatrix, Scores, score_labels
from clipvg.rescoring import EngineConfig
from clipvg.training import FeatureCache


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    return make_labels(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def model() -> GroundingModel:
    return make_model(trained_on=["template"])


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_equals_one_label_at_a_time(
    model: GroundingModel, labels: LabelTable, batch_size: int
) -> None:
    scores = score_labels(labels, {"m": model}, engine=EngineConfig(batch_size=batch_size))
    expected = one_by_one(model, labels)
    assert expected.std() > 0.05
    np.testing.assert_allclose(scores["m"], expected, atol=2e-5)
    assert scores.trained_on == (("template",),)


def test_features_that_are_there_serve_a_measurer(
    model: GroundingModel, labels: LabelTable
) -> None:
    features = FeatureCache(model, labels)
    over_them = GroundingMeasurer(model, features=features)
    by_itself = GroundingMeasurer(model)
    found, expected = (m.measure(labels, Context()).values for m in (over_them, by_itself))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    found, expected = (m.predict(labels, Context()) for m in (over_them, by_itself))
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_several_measurers_of_several_presets_in_one_pass(labels: LabelTable) -> None:
    models = {
        "a": make_model(1),
        "b": make_model(2),
        "p": make_model(3, preset="published"),
        "x": make_model(4, prefix="learned"),
        "y": make_model(5, levels=[1, 3]),
    }
    scores = score_labels(labels, models)
    assert scores.names == tuple(models)
    for name, model in models.items():
        np.testing.assert_allclose(scores[name], one_by_one(model, labels), atol=2e-5)


def test_each_image_and_each_expression_is_encoded_once(
    labels: LabelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, texts = [], []
    image_levels, packed = Backbone.image_levels, towers.packed_text_features
    monkeypatch.setattr(
        Backbone,
        "image_levels",
        lambda self, pixels: images.append(len(pixels)) or image_levels(self, pixels),
    )
    monkeypatch.setattr(
        towers,
        "packed_text_features",
        lambda tower, ids, prefix: texts.append(len(ids)) or packed(tower, ids, prefix),
    )
    score_labels(
        labels, {"a": make_model(1), "b": make_model(2)}, engine=EngineConfig(batch_size=3)
    )
    assert sum(images) == labels.num_images
    assert sum(texts) == len(WORDS)


def test_labels_keep_their_order(model: GroundingModel, labels: LabelTable) -> None:
    order = np.random.default_rng(1).permutation(len(labels))
    scores = score_labels(labels, {"m": model})
    shuffled = score_labels(labels.select(order), {"m": model})
    np.testing.assert_allclose(shuffled["m"], scores["m"][order], atol=2e-6)


def test_truth_is_never_read(model: GroundingModel, labels: LabelTable) -> None:
    noise = np.random.default_rng(2).uniform(0, 100, (len(labels), 4))
    scores = [
        score_labels(table, {"m": model}).scores.tobytes()
        for table in (labels, labels.with_column("truth", noise), labels.drop_columns("truth"))
    ]
    assert scores[0] == scores[1] == scores[2]


def test_unreadable_images_are_unscored_with_the_reason(
    model: GroundingModel, labels: LabelTable, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"not an image")
    extra = LabelTable.from_columns(
        image=[str(tmp_path / "broken.png"), str(tmp_path / "gone.png")],
        expression=["a", "b"],
        box=[[0, 0, 5, 5]] * 2,
    )
    paths = [str(labels.image_path(name)) for name in labels.image_names]
    mixed = LabelTable.concat([extra, labels.with_column("image", paths).with_images(None)])
    scores = score_labels(mixed, {"m": model})
    assert np.isnan(scores["m"][:2]).all()
    assert set(scores.reasons) == {0, 1}
    assert "broken.png" in scores.reasons[0]
    alone = score_labels(labels, {"m": model})
    np.testing.assert_allclose(scores["m"][2:], alone["m"], atol=2e-6)
    with pytest.raises(InputError, match=r"broken\.png|gone\.png"):
        score_labels(mixed, {"m": model}, on_error="raise")
    assert score_labels(extra, {"m": model}).count_above(0.0).tolist() == [[0]]


def test_a_prediction_that_is_not_finite_names_the_measurer(labels: LabelTable) -> None:
    broken = make_model()
    torch.nn.init.constant_(broken.reg_token.weight, float("nan"))
    with pytest.raises(InputError, match=r"'bad' predicts boxes that are not finite .* row"):
        score_labels(labels, {"good": make_model(), "bad": broken})


def test_a_model_in_training_mode_scores_as_any(labels: LabelTable) -> None:
    model = make_model().train()
    first = score_labels(labels, {"m": model})
    assert model.training
    np.testing.assert_array_equal(first.scores, score_labels(labels, {"m": model.eval()}).scores)


def test_checkpoints_by_path_and_by_text(
    model: GroundingModel, labels: LabelTable, tmp_path: Path
) -> None:
    for run in ("a", "b"):
        model.save_pretrained(tmp_path / run / "model")
    texts = [str(tmp_path / "a" / "model"), f"named@caption={tmp_path / 'b' / 'model'}"]
    scores = score_labels(labels, texts)
    assert scores.names == ("a/model", "named")
    assert scores.trained_on == (("template",), ("caption",))
    np.testing.assert_array_equal(scores["a/model"], scores["named"])
    assert score_labels(labels, {"m": tmp_path / "a" / "model"}).names == ("m",)
    with pytest.raises(InputError, match="two measurers"):
        score_labels(labels, [texts[0], texts[0]])


class Agreement:
    """A custom measurer: the lowest score of the grounding measurers."""

    name = "agreement"
    requires = frozenset({"scores"})

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        assert isinstance(context.scores, ScoreMatrix)
        return Scores(context.scores.scores.min(axis=0))


def test_measurers_of_ones_own(model: GroundingModel, labels: LabelTable) -> None:
    measurers = {"agreement": Agreement(), "m": model, "n": make_model(9)}
    scores = score_labels(labels, measurers)
    assert scores.names == ("agreement", "m", "n")
    np.testing.assert_array_equal(scores["agreement"], np.minimum(scores["m"], scores["n"]))
    with pytest.raises(InputError, match="requires scores"):
        score_labels(labels, {"agreement": Agreement()})
    with pytest.raises(InputError, match="expected a grounding model"):
        score_labels(labels, {"m": 5})


def test_one_measurer_alone_equals_the_pass(model: GroundingModel, labels: LabelTable) -> None:
    alone = GroundingMeasurer(model, "m").measure(labels, Context()).values
    np.testing.assert_array_equal(alone, score_labels(labels, {"m": model})["m"])


def test_senseless_options_are_refused(model: GroundingModel, labels: LabelTable) -> None:
    with pytest.raises(InputError, match="on_error"):
        score_labels(labels, {"m": model}, on_error="skip")
    with pytest.raises(InputError, match="batch_size"):
        score_labels(labels, {"m": model}, engine=EngineConfig(batch_size=0))
    with pytest.raises(InputError, match="no measurer"):
        score_labels(labels, {})


def test_no_labels(model: GroundingModel, labels: LabelTable) -> None:
    assert score_labels(labels.select([]), {"m": model}).scores.shape == (1, 0)
