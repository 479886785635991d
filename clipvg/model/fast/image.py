"""The image tower block by block, as one matrix product after the other."""

from __future__ import annotations

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor
from torch.nn import functional as F

from clipvg.ops.linear import is_fast, linear


def can_step(tower: VisionTransformer, images: Tensor) -> bool:
    """Whether a tower is computed here: within `fast_cpu`, with blocks of the kind known."""
    blocks = tower.transformer.resblocks
    known = all(type(block) is ResidualAttentionBlock for block in blocks)
    return is_fast(images) and known and not tower.transformer.grad_checkpointing


def image_levels(tower: VisionTransformer, images: Tensor, indices: list[int]) -> list[Tensor]:
    """Return tokens (U, 1 + P, width) after each of some blocks, as `forward_intermediates`."""
    x = tower.conv1(images).flatten(2).transpose(1, 2)  # (U, P, width)
    first = tower.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    x = torch.cat([first, x], dim=1)  # (U, 1 + P, width)
    x = tower.ln_pre(x + tower.positional_embedding.to(x.dtype))
    levels = []
    for number, block in enumerate(tower.transformer.resblocks[: indices[-1] + 1]):
        x = x + block.ls_1(_attend(block, block.ln_1(x)))
        x = x + block.ls_2(feed_forward(block, block.ln_2(x)))
        if number in indices:
            levels.append(x)
    return levels


def feed_forward(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """Apply the feed-forward part of a block."""
    mlp = block.mlp
    inner = mlp.gelu(linear(x, mlp.c_fc.weight, mlp.c_fc.bias))
    return linear(inner, mlp.c_proj.weight, mlp.c_proj.bias)


def _attend(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    attention = block.attn
    qkv = linear(x, attention.in_proj_weight, attention.in_proj_bias)  # (U, S, 3D)
    shape = (*x.shape[:2], 3, attention.num_heads, -1)
    q, k, v = qkv.view(shape).permute(2, 0, 3, 1, 4)  # each (U, H, S, D / H)
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (U, S, D)
    return linear(mixed, attention.out_proj.weight, attention.out_proj.bias)
