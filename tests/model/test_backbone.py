"""Frozen towers: their tapped levels, the models refused, and the keys that identify them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from clipvg.errors import InputError
from clipvg.model import Backbone, list_backbones
from clipvg.model.backbone import default_levels
from clipvg.model.towers import build_towers, open_towers

MakeBackbone = Callable[..., Backbone]


@pytest.mark.parametrize(
    ("blocks", "levels"), [(12, (0, 3, 7, 11)), (24, (0, 7, 15, 23)), (4, (0, 1, 2, 3)), (1, (0,))]
)
def test_default_levels(blocks: int, levels: tuple[int, ...]) -> None:
    assert default_levels(blocks) == levels


def test_levels_are_outputs_of_the_blocks(make_backbone: MakeBackbone) -> None:
    model = make_backbone(levels=[1, 3])
    images = torch.randn(2, 3, 32, 32)
    outputs = []
    for block in model.clip.visual.transformer.resblocks:
        block.register_forward_hook(lambda module, args, output: outputs.append(output))
    features = model.image_features(images)
    assert features.shape == (2, 17, 128) == (2, 1 + model.grid**2, model.feature_width)
    assert_close(features, torch.cat([outputs[1], outputs[3]], dim=-1))


def test_last_layer_tokens_start_with_the_clip_embedding(make_backbone: MakeBackbone) -> None:
    model = make_backbone(visual="last")
    images = torch.randn(2, 3, 32, 32)
    features = model.image_features(images)
    assert features.shape == (2, 17, 24)
    assert_close(features[:, 0], model.clip.encode_image(images))


def test_text_features_hold_the_clip_embedding_at_the_end_token(
    make_backbone: MakeBackbone,
) -> None:
    model = make_backbone()
    tokens = torch.zeros(2, 77, dtype=torch.int64)
    tokens[:, :4] = torch.tensor([[49406, 320, 1929, 49407], [49406, 736, 1615, 49407]])
    assert_close(model.text_features(tokens)[:, 3], model.clip.encode_text(tokens))
    assert_close(model.text_features(tokens[:, :4]), model.text_features(tokens)[:, :4])


def test_towers_stay_frozen_and_in_evaluation(make_backbone: MakeBackbone) -> None:
    model = make_backbone()
    model.train()
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    names = [
        n
        for n, p in make_backbone(train_visual_positions=True).named_parameters()
        if p.requires_grad
    ]
    assert names == ["clip.visual.positional_embedding"]


def test_keys_follow_weights_and_levels(make_backbone: MakeBackbone) -> None:
    first, same, other = make_backbone(), make_backbone(), make_backbone(seed=1)
    assert (first.image_key, first.text_key) == (same.image_key, same.text_key)
    assert first.image_key != other.image_key
    assert first.text_key != other.text_key
    assert first.image_key != make_backbone(levels=[0, 3]).image_key
    assert first.image_key != make_backbone(visual="last").image_key
    gelu = first.config | {"quick_gelu": False}
    torch.manual_seed(0)
    assert Backbone(build_towers(gelu)).image_key != first.image_key
    text_only = make_backbone()
    text_only.clip.ln_final.bias.data.add_(1)
    assert text_only.image_key == first.image_key
    assert text_only.text_key != first.text_key


def test_keys_follow_what_weights_do_not_show(make_backbone: MakeBackbone) -> None:
    plain, other = make_backbone(), make_backbone()
    for tower in (other.clip.visual, other.text_tower):
        tower.transformer.resblocks[0].ln_1.eps = 1e-3
    assert plain.image_key != other.image_key
    assert plain.text_key != other.text_key


def test_key_follows_trained_positions(make_backbone: MakeBackbone) -> None:
    model = make_backbone(train_visual_positions=True)
    before = model.image_key
    model.clip.visual.positional_embedding.data.add_(1)
    assert model.image_key != before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("RN50", "ResNet"),
        ("coca_ViT-B-32", "CoCa"),
        ("ViT-B-16-SigLIP", "timm"),
        ("roberta-ViT-B-32", "Hugging Face"),
        ("ViT-L-14-CLIPA", "not causal"),
        ("ViT-H-14-worldwide", "byte-pair"),
    ],
)
def test_unfit_models_are_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=rf"{name}.*{reason}") as error:
        open_towers(name)
    assert "\n" not in str(error.value)


def test_a_text_tower_without_causal_mask_is_refused(clip_config: dict[str, Any]) -> None:
    config = clip_config
    config["text_cfg"]["no_causal_mask"] = True
    with pytest.raises(InputError, match="not causal"):
        build_towers(config | {"custom_text": True})


def test_a_separate_text_module_gives_the_same_features(
    make_backbone: MakeBackbone, clip_config: dict[str, Any]
) -> None:
    together = make_backbone()
    apart = Backbone(build_towers(clip_config | {"custom_text": True}))
    state = together.clip.state_dict()
    renamed = {
        k if k.startswith(("visual.", "logit")) else f"text.{k}": v for k, v in state.items()
    }
    apart.clip.load_state_dict(renamed)
    tokens = torch.randint(1, 49000, (2, 9))
    assert_close(apart.text_features(tokens), together.text_features(tokens))


@pytest.mark.parametrize("levels", [[3, 1], [0, 4], [-1, 2], [1, 1]])
def test_levels_must_be_ascending_blocks(make_backbone: MakeBackbone, levels: list[int]) -> None:
    with pytest.raises(InputError, match=r"blocks 0 … 3"):
        make_backbone(levels=levels)


def test_unknown_names_get_near_ones() -> None:
    with pytest.raises(InputError, match="Did you mean ViT-B-16"):
        open_towers("ViT-B16")
    with pytest.raises(InputError, match="did you mean 'openai'"):
        open_towers("ViT-B-16", "openia")


def test_listed_backbones_are_the_fit_ones() -> None:
    names = list_backbones()
    assert {"ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "clipvg-tiny"} <= set(names)
    assert not {"RN50", "coca_ViT-B-32"} & set(names)


def test_without_a_network_the_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipvg.model.hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("clipvg.model.hub.constants.HF_HUB_CACHE", "/nonexistent")
    with pytest.raises(
        InputError, match=r"pretrained=None .* or the path of a weight file"
    ) as error:
        open_towers("ViT-B-16", "openai")
    assert "\n" not in str(error.value)


def test_keys_follow_weights_that_are_loaded(make_backbone: MakeBackbone) -> None:
    first, second = make_backbone(seed=0), make_backbone(seed=1)
    keys = first.image_key, first.text_key
    assert keys != (second.image_key, second.text_key)
    first.load_state_dict(second.state_dict())
    assert (first.image_key, first.text_key) == (second.image_key, second.text_key)
