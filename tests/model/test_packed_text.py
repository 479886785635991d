"""Packed texts through the text tower give the same features as padded ones."""

from __future__ import annotations

import pytest
import torch

from clipvg.model.backbone import Backbone
from clipvg.model.config import GroundingConfig
from clipvg.model.fast.towers import can_pack, packed_text_features

LENGTHS = [1, 3, 3, 3, 7, 12, 12]


@pytest.fixture(scope="module", params=["clipvg-tiny", "ViT-S-32-alt"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    torch.manual_seed(0)
    return Backbone.create(GroundingConfig(backbone=request.param, pretrained=None))


@pytest.mark.parametrize("prefix_length", [None, 2, 5])
def test_packed_texts_equal_padded_ones(backbone: Backbone, prefix_length: int | None) -> None:
    texts = [torch.randint(1, 400, (length,)) for length in LENGTHS]
    prefix = None
    if prefix_length is not None:
        prefix = torch.randn(prefix_length, backbone.text_tower.token_embedding.embedding_dim)
    assert can_pack(backbone)
    with torch.inference_mode():
        packed = packed_text_features(backbone, texts, prefix)
        for text, features in zip(texts, packed, strict=True):
            alone = backbone.text_features(text[None], prefix)[0]
            torch.testing.assert_close(features, alone, atol=2e-5, rtol=1e-5)


def test_blocks_of_another_kind_are_not_packed(backbone: Backbone) -> None:
    class Other(torch.nn.Module):
        pass

    blocks = backbone.text_tower.transformer.resblocks
    first = blocks[0]
    blocks[0] = Other()
    try:
        assert not can_pack(backbone)
    finally:
        blocks[0] = first
