"""The text tower over packed texts: real tokens only, one text after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from open_clip.transformer import ResidualAttentionBlock, Transformer
from torch import Tensor
from torch.nn import functional as F

from clipvg.model.backbone import Backbone
from clipvg.model.fast.image import feed_forward
from clipvg.ops.linear import linear
from clipvg.ops.runs import equal_runs

_TOKENS = 4096  # that a tower takes at a time where it needs no padding
_TEXTS = 256  # texts of similar length, where they are padded


def encode_texts(
    towers: Backbone,
    tokens: Tensor,
    lengths: Tensor,
    *,
    prefix: Tensor | None = None,
    packed: bool = False,
) -> Iterator[tuple[list[int], Sequence[Tensor]]]:
    """Encode texts, those of similar length together.

    Args:
        towers: the text tower, on the device and in the number type to use.
        tokens (Tensor[B, T]): int64 ids.
        lengths (Tensor[B]): int64, how many of them to encode: attention is causal, so that what
            comes later does not matter.
        prefix (Tensor[n, text width], optional): embeddings in place of the first n tokens'.
        packed: without padding, which a CPU needs `clipvg.ops.linear.fast_cpu` to gain from;
            towers of an unknown kind pad all the same.

    Yields:
        (rows of some texts, their features (length, E)); every row comes once.
    """
    packed = packed and can_pack(towers)
    device = next(towers.parameters()).device
    order = lengths.argsort(stable=True)
    sizes = lengths[order]
    batch = sizes.cumsum(0) // _TOKENS if packed else torch.arange(len(order)) // _TEXTS
    for rows in order.split(batch.unique_consecutive(return_counts=True)[1].tolist()):
        counts = lengths[rows].tolist()
        ids = tokens[rows, : counts[-1]].to(device)  # (n, longest)
        if packed:
            texts = [text[:count] for text, count in zip(ids, counts, strict=True)]
            yield rows.tolist(), packed_text_features(towers, texts, prefix)
        else:
            features = towers.text_features(ids, prefix)  # (n, longest, E)
            yield rows.tolist(), [f[:count] for f, count in zip(features, counts, strict=True)]


def can_pack(backbone: Backbone) -> bool:
    """Whether every block of the text tower is of the kind that is computed here."""
    return all(type(block) is ResidualAttentionBlock for block in _tower(backbone).resblocks)


def packed_text_features(
    backbone: Backbone, texts: Sequence[Tensor], prefix: Tensor | None = None
) -> list[Tensor]:
    """Return what `Backbone.text_features` gives of texts (T,), shorter ones first, unpadded.

    Linear maps see the tokens of all texts as one matrix; texts of one length attend together. The
    towers are such that `can_pack` holds.
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
