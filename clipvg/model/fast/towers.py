"""Run CLIP's towers block by block, as plain matrix products, and texts without padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from open_clip.transformer import ResidualAttentionBlock, Transformer, VisionTransformer
from torch import Tensor
from torch.nn import functional as F

from clipvg.ops.linear import is_fast, linear
from clipvg.ops.runs import equal_runs

if TYPE_CHECKING:
    from clipvg.model.backbone import Backbone

_TOKENS = 4096  # of one pass of a tower, without padding
_TEXTS = 256  # of similar length, in one pass with padding


def can_step(tower: VisionTransformer, images: Tensor) -> bool:
    """Whether `image_levels` can run a tower: in `fast_cpu`, known blocks, no checkpointing."""
    transformer = tower.transformer
    return is_fast(images) and _is_known(transformer) and not transformer.grad_checkpointing


def can_pack(backbone: Backbone) -> bool:
    """Whether `packed_text_features` can run the text tower: every block is of the known kind."""
    return _is_known(backbone.text_tower.transformer)


def image_levels(tower: VisionTransformer, images: Tensor, indices: list[int]) -> list[Tensor]:
    """Return tokens (U, 1 + P, width) after the blocks `indices`, like `forward_intermediates`."""
    x = tower.conv1(images).flatten(2).transpose(1, 2)  # (U, P, width)
    first = tower.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    x = torch.cat([first, x], dim=1)  # (U, 1 + P, width)
    x = tower.ln_pre(x + tower.positional_embedding.to(x.dtype))
    levels = []
    for number, block in enumerate(tower.transformer.resblocks[: indices[-1] + 1]):
        x = _step(block, x, lambda qkv, heads: _attend(qkv, heads, causal=False))
        if number in indices:
            levels.append(x)
    return levels


def encode_texts(
    towers: Backbone,
    tokens: Tensor,
    lengths: Tensor,
    *,
    prefix: Tensor | None = None,
    packed: bool = False,
    device: torch.device | None = None,
) -> list[Tensor]:
    """Encode texts, batching those of similar length.

    Args:
        towers: the text tower, on the device and in the dtype to use.
        tokens (Tensor[B, T]): int64 ids.
        lengths (Tensor[B]): int64, how many tokens of each text to encode; attention is causal, so
            later ones do not matter.
        prefix (Tensor[n, text width], optional): embeddings in place of the first n tokens'.
        packed: encode without padding, which a CPU gains from only in `clipvg.ops.linear.fast_cpu`;
            texts for towers of an unknown kind are padded anyway.
        device: device of the features; the tower's when None.

    Returns:
        The features (length, E) of each text; those encoded together share memory.
    """
    packed = packed and can_pack(towers)
    own = next(towers.parameters()).device
    place = own if device is None else device
    order = lengths.argsort(stable=True)
    sizes = lengths[order]
    batch = sizes.cumsum(0) // _TOKENS if packed else torch.arange(len(order)) // _TEXTS
    found: list[Tensor] = [torch.empty(0)] * len(order)
    for rows in order.split(batch.unique_consecutive(return_counts=True)[1].tolist()):
        counts = lengths[rows].tolist()
        ids = tokens[rows, : counts[-1]].to(own)  # (n, longest)
        if packed:
            real = [text[:count] for text, count in zip(ids, counts, strict=True)]
            texts = packed_text_features(towers, real, prefix)
        else:
            texts = list(towers.text_features(ids, prefix).to(place))  # (longest, E) each
        for row, count, text in zip(rows.tolist(), counts, texts, strict=True):
            found[row] = text[:count].to(place)
    return found


def packed_text_features(
    backbone: Backbone, texts: Sequence[Tensor], prefix: Tensor | None = None
) -> list[Tensor]:
    """Return `Backbone.text_features` of each text (T,), without padding; shorter texts come first.

    Linear maps see the tokens of all texts as one matrix; texts of equal length attend together.
    `can_pack` must hold.
    """
    lengths = [len(text) for text in texts]
    edges = [0, *accumulate(lengths)]
    runs = list(equal_runs(edges, edges))

    def attend(qkv: Tensor, heads: int) -> Tensor:
        parts = (qkv[run.key_tokens].unflatten(0, (run.count, run.keys)) for run in runs)
        return torch.cat([_attend(part, heads, causal=True).flatten(0, 1) for part in parts])

    ids = torch.cat(list(texts))  # (V,), tokens of all texts
    position = torch.cat([torch.arange(n, device=ids.device) for n in lengths])
    x = backbone.embed_text(ids, position, prefix)  # (V, D)
    for block in backbone.text_tower.transformer.resblocks:
        x = _step(block, x, attend)
    return list(backbone.project_text(x).split(lengths))


def _is_known(transformer: Transformer) -> bool:
    return all(type(block) is ResidualAttentionBlock for block in transformer.resblocks)


def _step(
    block: ResidualAttentionBlock, x: Tensor, attend: Callable[[Tensor, int], Tensor]
) -> Tensor:
    """Apply a block to tokens (..., D); `attend` maps q, k, v (..., 3D) and heads to (..., D)."""
    attention, mlp = block.attn, block.mlp
    qkv = linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    mixed = attend(qkv, attention.num_heads)
    x = x + block.ls_1(linear(mixed, attention.out_proj.weight, attention.out_proj.bias))
    inner = mlp.gelu(linear(block.ln_2(x), mlp.c_fc.weight, mlp.c_fc.bias))
    return x + block.ls_2(linear(inner, mlp.c_proj.weight, mlp.c_proj.bias))


def _attend(qkv: Tensor, heads: int, *, causal: bool) -> Tensor:
    """Attend within each of U sequences of equal length, (U, S, 3D) to (U, S, D)."""
    q, k, v = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # each (U, H, S, D / H)
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return mixed.transpose(1, 2).flatten(2)
