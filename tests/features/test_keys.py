"""Feature keys differ exactly where the features may differ."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny import make_labels, make_model

from clipvg.data import Preset, get_preset
from clipvg.data.preset import PRESETS, Channels
from clipvg.features import FeatureCache, image_key, text_key
from clipvg.features.keys import pixels_key
from clipvg.labels import LabelTable
from clipvg.measures import Agreement
from clipvg.model import GroundingModel
from clipvg.reliability import Context, score_labels
from clipvg.reliability.batch import Batch
from clipvg.rescoring import EngineConfig
from clipvg.rescoring.store import measurer_key

# For each field of a preset another value, and what that changes. A new field needs a line here.
CHOICES: dict[str, tuple[Any, set[str]]] = {
    "name": ("another", set()),
    "mean": ((0.1, 0.2, 0.3), {"pixels", "image"}),
    "std": ((0.1, 0.2, 0.3), {"pixels", "image"}),
    "exif": (False, {"pixels", "image"}),
    "patch_mask": ("centre", {"image"}),
    "text_mask": ("nonzero", {"text"}),
    "overlength": ("error", {"text"}),
    "special_names": (True, {"text"}),
    "integer_boxes": (True, {"boxes"}),
    "direction": ("substring", set()),
}


def with_preset(monkeypatch: pytest.MonkeyPatch, seed: int = 0, **choices: Any) -> GroundingModel:
    """Return a model with a third preset: the default one with other `choices`."""

    def third(mean: Channels, std: Channels) -> Preset:
        return dataclasses.replace(get_preset("default", mean, std), **choices)

    name = f"third {choices}"  # unique, as models are cached by their options
    monkeypatch.setitem(PRESETS, name, third)
    return make_model(seed, preset=name)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    """Labels half of whose expressions contain CLIP's end token."""
    plain = make_labels(tmp_path_factory.mktemp("images"))
    texts = [f"{e} <|endoftext|> dog" if i % 2 else e for i, e in enumerate(plain.expressions)]
    return plain.with_column("expression", texts)


def test_every_choice_of_a_preset_is_known() -> None:
    assert set(CHOICES) == {field.name for field in dataclasses.fields(Preset)}


@pytest.mark.parametrize("choice", CHOICES)
def test_keys_follow_what_decides_features(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, decides = CHOICES[choice]
    plain = with_preset(monkeypatch)
    other = with_preset(monkeypatch, **{choice: value})
    cpu = torch.device("cpu")
    keys = {
        "pixels": pixels_key(plain) != pixels_key(other),
        "image": image_key(plain) != image_key(other),
        "text": text_key(plain) != text_key(other),
    }
    assert {name for name, differs in keys.items() if differs} == decides - {"boxes"}
    scores = measurer_key(plain, EngineConfig(), cpu) != measurer_key(other, EngineConfig(), cpu)
    assert scores == bool(decides)
    assert FeatureCache(plain).fits(other) == (not decides)


@pytest.mark.parametrize(
    ("option", "value"),
    [("prompt", "the {} here"), ("prefix", "published"), ("prefix", "learned"), ("prefix", [5, 6])],
)
def test_text_keys_follow_what_is_put_before_an_expression(option: str, value: Any) -> None:
    plain, other = make_model(), make_model(**{option: value})
    assert text_key(plain) != text_key(other)
    assert text_key(other) == text_key(make_model(1, **{option: value})) or value == "learned"
    assert image_key(plain) == image_key(other)


def test_a_learned_prefix_counts_by_its_values() -> None:
    one, same, other = (make_model(seed, prefix="learned") for seed in (1, 1, 2))
    assert text_key(one) == text_key(same) != text_key(other)
    assert FeatureCache(one).fits(other)  # a cache keeps token ids and leaves the rest to the model


@pytest.mark.parametrize("option", [{"levels": [0, 1]}, {"visual": "last"}])
def test_image_keys_follow_what_is_read_from_the_tower(option: dict[str, Any]) -> None:
    assert image_key(make_model()) != image_key(make_model(**option))
    assert text_key(make_model()) == text_key(make_model(**option))


def test_heads_decide_no_feature() -> None:
    assert image_key(make_model(1)) == image_key(make_model(2, width=64))
    assert text_key(make_model(1)) == text_key(make_model(2, width=64))


def test_presets_that_differ_in_special_names_share_no_text(
    labels: LabelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make_model(1)
    third = with_preset(monkeypatch, 1, special_names=True)
    names = np.array(["<|endoftext|>" in e for e in labels.expressions])
    alone = [score_labels(labels, {"one": model}).scores[0] for model in (plain, third)]
    assert not np.allclose(alone[0][names], alone[1][names])
    together = score_labels(labels, {"plain": plain, "third": third}).scores
    np.testing.assert_array_equal(together, alone)
    boxes: dict[str, list[torch.Tensor]] = {}

    def observe(self: Agreement, batch: Batch) -> torch.Tensor:
        for model in self.models:
            boxes.setdefault(model.config.preset, []).append(batch.boxes(model))
        return batch.boxes(plain)[:, 0]

    monkeypatch.setattr(Agreement, "observe", observe)
    Agreement([plain, third]).measure(labels, Context(engine=EngineConfig(batch_size=len(labels))))
    assert not torch.allclose(torch.cat(boxes["default"]), torch.cat(boxes[third.config.preset]))
    assert not FeatureCache(plain, labels).fits(third)
