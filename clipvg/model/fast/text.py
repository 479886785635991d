"""The text tower over packed texts: real tokens only, one text after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from open_clip.transformer import ResidualAttentionBlock, Transformer
from torch import Tensor
from torch.nn import functional as F

from clipvg.model.backbone import Backbone
from clipvg.model.fast.image import feed_forward
from clipvg.ops.linear import linear
from clipvg.ops.runs import equal_runs


def can_pack(backbone: Backbone) -> bool:
    """Whether every block of the text tower is of the kind that is computed here."""
    return all(type(block) is ResidualAttentionBlock for block in _tower(backbone).resblocks)


def packed_text_features(
    backbone: Backbone, texts: Sequence[Tensor], prefix: Tensor | None = None
) -> list[Tensor]:
    """Return what `Backbone.text_features` gives, without padding.

    Linear maps see the tokens of all texts as one matrix; texts of one length attend together.

    Args:
        backbone: towers for which `can_pack` holds.
        texts: int64 ids (T,) of each text, shorter ones first.
        prefix (Tensor[n, text width], optional): embeddings in place of the first n tokens'.

    Returns:
        Features (T, embed_dim) of each text.
    """
    lengths = [len(text) for text in texts]
    ids = torch.cat(list(texts))  # (V,), tokens of all texts
    position = torch.cat([torch.arange(n, device=ids.device) for n in lengths])
    x = backbone.embed_text(ids, position, prefix)  # (V, D)
    for block in _tower(backbone).resblocks:
        attention = block.attn
        qkv = linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)  # (V, 3D)
        mixed = _attend(qkv, lengths, attention.num_heads)  # (V, D)
        x = x + block.ls_1(linear(mixed, attention.out_proj.weight, attention.out_proj.bias))
        x = x + block.ls_2(feed_forward(block, block.ln_2(x)))
    return list(backbone.project_text(x).split(lengths))


def _attend(qkv: Tensor, lengths: list[int], heads: int) -> Tensor:
    """Attend causally within each text, (V, 3D) to (V, D)."""
    edges = [0, *accumulate(lengths)]
    parts = []
    for run in equal_runs(edges, edges):
        rows = qkv[run.key_tokens].view(run.count, run.keys, 3, heads, -1)
        q, k, v = rows.permute(2, 0, 3, 1, 4)  # each (count, H, T, D / H)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        parts.append(mixed.transpose(1, 2).flatten(2).flatten(0, 1))
    return torch.cat(parts)


def _tower(backbone: Backbone) -> Transformer:
    return backbone.text_tower.transformer
