"""CLIP's image tower with its last block taken apart, to control what [CLS] attends to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional as F

Weights = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Dense:
    """Tokens of one image before the last block of the tower.

    Attributes:
        tokens: (1 + P, width), [CLS] and patches.
        grid: rows and columns of the patches.
    """

    tokens: Tensor
    grid: tuple[int, int]


def before_last(tower: VisionTransformer, pixels: Tensor, *, finer: int = 1) -> Dense:
    """Encode an image up to the last block.

    Args:
        tower: CLIP's image tower.
        pixels (Tensor[3, S, S]): normalised.
        finer: 2 halves the stride of the patches, so that the grid has nearly twice as many a side.
    """
    patch = tower.patch_size[0]
    x = F.conv2d(pixels[None], tower.conv1.weight, tower.conv1.bias, stride=patch // finer)
    grid = (x.shape[2], x.shape[3])
    x = x.flatten(2).transpose(1, 2)  # (1, P, width)
    first = tower.class_embedding.to(x.dtype).expand(1, 1, -1)
    x = torch.cat([first, x], dim=1) + _positions(tower, grid).to(x.dtype)
    x = tower.ln_pre(x)
    for block in tower.transformer.resblocks[:-1]:
        x = block(x)
    return Dense(x[0], grid)


def pooled(tower: VisionTransformer, dense: Dense, weigh: Weights) -> Tensor:
    """Return the unit-length embedding of [CLS] after the last block.

    Args:
        tower: CLIP's image tower.
        dense: from `before_last`.
        weigh: maps the attention logits (H, 1 + P) of [CLS] to weights (..., H, 1 + P).

    Returns:
        Tensor[..., E] float32.
    """
    block = tower.transformer.resblocks[-1]
    attention, own = block.attn, dense.tokens[0]
    qkv = F.linear(block.ln_1(dense.tokens), attention.in_proj_weight, attention.in_proj_bias)
    shape = (len(dense.tokens), 3, attention.num_heads, -1)
    q, k, v = qkv.view(shape).permute(1, 2, 0, 3)  # each (H, 1 + P, D / H)
    logits = (q[:, :1] * k).sum(-1) / k.shape[-1] ** 0.5  # (H, 1 + P)
    mixed = torch.einsum("...hp,hpd->...hd", weigh(logits), v).flatten(-2)  # (..., width)
    x = own + block.ls_1(attention.out_proj(mixed))
    x = tower.ln_post(x + block.ls_2(block.mlp(block.ln_2(x))))
    return F.normalize((x if tower.proj is None else x @ tower.proj).float(), dim=-1)


def _positions(tower: VisionTransformer, grid: tuple[int, int]) -> Tensor:
    """Return the tower's position embeddings (1 + P, width), interpolated to another grid."""
    table = tower.positional_embedding
    if grid == tuple(tower.grid_size):
        return table
    patches = table[1:].T.reshape(1, -1, *tower.grid_size)
    wider = F.interpolate(patches, size=grid, mode="bicubic", align_corners=True)
    return torch.cat([table[:1], wider[0].flatten(1).T])
