"""The text tower over packed texts: real tokens only, one text after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor
from torch.nn import functional as F

from clipvg.model.image_blocks import feed_forward
from clipvg.ops.linear import linear

if TYPE_CHECKING:
    from clipvg.model.backbone import Backbone


def can_pack(backbone: Backbone) -> bool:
    """Whether every block of the text tower is of the kind that is computed here."""
    return all(type(block) is ResidualAttentionBlock for block in _tower(backbone).resblocks)


def packed_text_features(
    backbone: Backbone, texts: Sequence[Tensor], prefix: Tensor | None = None
) -> list[Tensor]:
    """What `Backbone.text_features` gives, without padding.

    Linear maps see the tokens of all texts as one matrix; texts of one length attend together.

    Args:
        backbone: towers for which `can_pack` holds.
        texts: int64 ids (T,) of each text, shorter ones first.
        prefix (Tensor[n, text width], optional): embeddings in place of the first n tokens'.

    Returns:
        Features (T, embed_dim) of each text.
    """
    lengths = [len(text) for text in texts]
    ids = torch.cat(list(texts))
    position = torch.cat([torch.arange(n, device=ids.device) for n in lengths])
    x = backbone.embed_text(ids, position, prefix)
    for block in _tower(backbone).resblocks:
        attention = block.attn
        qkv = linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
        mixed = _attend(qkv, lengths, attention.num_heads)
        x = x + block.ls_1(linear(mixed, attention.out_proj.weight, attention.out_proj.bias))
        x = x + block.ls_2(feed_forward(block.mlp, block.ln_2(x)))
    return list(backbone.project_text(x).split(lengths))


def _attend(qkv: Tensor, lengths: list[int], heads: int) -> Tensor:
    """Causal attention within each text, (T, 3D) to (T, D)."""
    parts, first = [], 0
    for length, some in groupby(lengths):
        count = len(list(some))
        rows = qkv[first : first + count * length]
        q, k, v = rows.view(count, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        parts.append(mixed.transpose(1, 2).reshape(count * length, -1))
        first += count * length
    return torch.cat(parts)


def _tower(backbone: Backbone) -> Any:
    return backbone.text_tower.transformer
