"""Every intermediate tensor of the reference, from its inputs."""

from __future__ import annotations

import copy
from typing import Any

import torch
from safetensors.torch import load_file
from support.tolerances import TOLERANCES
from torch.testing import assert_close

from clipvg.data.dataset import Batch
from clipvg.model import GroundingModel
from clipvg.model.fusion import Features
from clipvg.model.tokenizer import PUBLISHED_PREFIX

FEATURES = TOLERANCES["golden_features"]
BOXES = TOLERANCES["golden_boxes"]
Golden = dict[str, torch.Tensor]


def batch_of(golden: Golden, **changes: Any) -> Batch:
    count = len(golden["image"])
    values = {
        "images": golden["image"],
        "pixel_mask": golden["image_mask"],
        "image_index": torch.arange(count),
        "tokens": golden["token_ids"],
        "text_mask": golden["text_mask"],
        "target": golden["target"],
        "row": torch.arange(count),
    }
    return Batch(**{**values, **changes})


def sequence(model: GroundingModel, golden: Golden) -> tuple[torch.Tensor, ...]:
    return model.sequence(
        Features(
            golden["image_features"],
            golden["visual_patch_mask"],
            golden["text_features"],
            golden["text_mask"],
        )
    )


def test_features_of_the_towers(published: GroundingModel, golden: Golden) -> None:
    assert published.backbone.levels == (0, 3, 7, 11)
    assert_close(published.encode_images(golden["image"]), golden["image_features"], **FEATURES)
    assert_close(published.encode_text(golden["token_ids"]), golden["text_features"], **FEATURES)


def test_projections(published: GroundingModel, golden: Golden) -> None:
    visual = published.visual_projection(golden["image_features"])
    text = published.text_projection(golden["text_features"])
    assert_close(visual, golden["visual_projected"], **FEATURES)
    assert_close(text, golden["text_projected"], **FEATURES)


def test_masks_are_exact(published: GroundingModel, golden: Golden) -> None:
    ignored = published.patch_mask(golden["image_mask"])
    assert torch.equal(ignored, golden["visual_patch_mask"])
    assert torch.equal(~golden["text_mask"], golden["text_key_padding_mask"])
    _, _, keep = sequence(published, golden)
    length = keep.shape[1] - 2 - ignored.shape[1]
    theirs = golden["fusion_mask"]
    assert torch.equal(~keep[:, : 1 + length], theirs[:, : 1 + length])
    assert torch.equal(~keep[:, 1 + length :], theirs[:, 78:])
    assert theirs[:, 1 + length : 78].all()


def test_every_layer_of_the_fusion(published: GroundingModel, golden: Golden) -> None:
    with torch.no_grad():
        tokens, position, keep = sequence(published, golden)
        states = list(published.fusion.states(tokens, position, keep))
        state = published.fusion(tokens, position, keep)
    for i, layer in enumerate(states):
        assert_close(layer[:, 0], golden["fusion_reg_layers"][:, i], **FEATURES)
    text = tokens.shape[1] - 2 - golden["visual_patch_mask"].shape[1]
    assert_close(states[-1][:, : 1 + text], golden["fusion_output"][:, : 1 + text], **FEATURES)
    assert_close(states[-1][:, 1 + text :], golden["fusion_output"][:, 78:], **FEATURES)
    assert_close(state, golden["fusion_reg"], **FEATURES)
    assert_close(published.head.logits(state), golden["logits"], **FEATURES)


def test_boxes(published: GroundingModel, golden: Golden) -> None:
    with torch.no_grad():
        assert_close(published(batch_of(golden)), golden["boxes"], **BOXES)


def test_boxes_in_double_precision(published: GroundingModel, golden: Golden) -> None:
    double = copy.deepcopy(published).double()
    with torch.no_grad():
        boxes = double(batch_of(golden, images=golden["image"].double()))
    assert_close(boxes, golden["boxes_float64"], rtol=0.0, atol=1e-12)


def test_the_antialiased_patch_mask_is_another(published: GroundingModel, golden: Golden) -> None:
    """Antialiasing, the default since torchvision 0.17, would change masks and boxes."""
    changed = (golden["visual_patch_mask"] != golden["visual_patch_mask_antialias"]).any(dim=1)
    assert changed.any()
    with torch.no_grad():
        boxes = published.fuse(
            Features(
                golden["image_features"],
                golden["visual_patch_mask_antialias"],
                golden["text_features"],
                golden["text_mask"],
            )
        )
    assert_close(boxes, golden["boxes_mask_antialias"], **BOXES)
    assert (boxes - golden["boxes"])[changed].abs().max() > 0.01


def test_towers_use_quick_gelu(published: GroundingModel, golden: Golden) -> None:
    """GELU would move boxes by about 0.01, which a loose tolerance hides."""
    other = copy.deepcopy(published)
    for block in other.backbone.clip.visual.transformer.resblocks:
        block.mlp.gelu = torch.nn.GELU()
    with torch.no_grad():
        moved = (other(batch_of(golden)) - golden["boxes"]).abs().max()
    assert 1e-3 < moved < 0.1


def test_trimmed_text_gives_the_same_boxes(published: GroundingModel, golden: Golden) -> None:
    """A single row is trimmed to its own length, a batch to its longest row."""
    with torch.no_grad():
        text = published.encode_text(golden["token_ids"])
        for i in range(len(text)):
            length = int(golden["text_mask"][i].nonzero().max()) + 1
            short = published.encode_text(golden["token_ids"][i : i + 1, :length])
            assert_close(short, text[i : i + 1, :length], **FEATURES)
            one = {k: v[i : i + 1] for k, v in golden.items()}
            assert_close(published(batch_of(one)), golden["boxes"][i : i + 1], **BOXES)


def test_expressions_of_one_image_share_its_features(
    published: GroundingModel, golden: Golden
) -> None:
    index = torch.tensor([1, 1, 0, 1, 0])
    with torch.no_grad():
        shared = published(batch_of(golden, image_index=index))
        repeated = published(
            batch_of(golden, images=golden["image"][index], pixel_mask=golden["image_mask"][index])
        )
    assert_close(shared, repeated, **BOXES)


def test_prompt_variant(published: GroundingModel, golden: Golden, mini: Any) -> None:
    stored = load_file(mini / "prompt_variant.safetensors")
    assert stored["language_prompt"].long().tolist() == list(PUBLISHED_PREFIX)
    prefix = stored["language_prompt"].long().expand(len(golden["token_ids"]), -1)
    tokens = torch.cat([prefix, golden["token_ids"]], dim=1)[:, :77]
    assert torch.equal(tokens, stored["token_ids_with_prompt"])
    mask = tokens > 0
    assert torch.equal(~mask, stored["text_key_padding_mask"].bool())
    with torch.no_grad():
        boxes = published(batch_of(golden, tokens=tokens, text_mask=mask))
    assert_close(boxes, stored["boxes"], **BOXES)
