"""The fusion encoder over packed sequences: no text padding, no patches of padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.model.dropout import dropout
from clipvg.model.fusion import keep_mask
from clipvg.ops.linear import linear

if TYPE_CHECKING:
    from clipvg.model.grounder import GroundingModel


_LEAST_WIDTH = 256  # of an encoder; below, the calls a sequence cost more than its padding


def pays(width: int) -> bool:
    """Whether packed sequences are faster than padded ones in an encoder of a width."""
    return width >= _LEAST_WIDTH


def packed_state(
    model: GroundingModel,
    image_features: Tensor,
    patch_ignored: Tensor,
    text_features: Tensor,
    text_mask: Tensor,
    image_index: Tensor | None = None,
) -> Tensor:
    """The [REG] state that `FusionEncoder` gives for `model.sequence`, (B, D).

    Tokens that nothing may attend to change nothing and are left out: a picture that training has
    scaled and pasted fills a third of its square. Arguments as of `GroundingModel.fuse`.
    """
    if image_index is None:
        image_index = torch.arange(len(image_features))
    length = text_mask.shape[1]
    keep = keep_mask(text_mask, patch_ignored[image_index])  # (B, 2 + T + P)
    text, number_of_text = _rows(text_features, text_mask, model.text_projection)
    seen = torch.cat([torch.ones_like(patch_ignored[:, :1]), ~patch_ignored], dim=1)
    visual, number_of_visual = _rows(image_features, seen, model.visual_projection)
    reg = model.reg_token.weight.to(text.dtype)
    rows = torch.cat([reg, text, visual])
    source = [
        torch.zeros_like(text_mask[:, :1], dtype=torch.int64),
        1 + number_of_text,
        1 + len(text) + number_of_visual[image_index],
    ]
    # index_select: the backward of rows[...] would add in any order on several threads
    x = rows.index_select(0, torch.cat(source, dim=1)[keep])
    place = keep.nonzero()[:, 1]
    place = torch.where(place > length, place + model.backbone.context_length - length, place)
    position = model.position.weight.index_select(0, place).to(x.dtype)
    lengths = keep.sum(1)
    first = lengths.cumsum(0) - lengths
    runs = lengths.tolist()
    *layers, last = model.fusion.layers
    for layer in layers:
        x = packed_layer(layer, x, position, runs)
    return packed_layer(last, x, position, runs, first)


def packed_layer(
    layer: Any,
    x: Tensor,
    position: Tensor,
    lengths: Sequence[int],
    first: Tensor | None = None,
) -> Tensor:
    """What `FusionLayer.forward` gives for packed sequences.

    Args:
        layer: a `FusionLayer`.
        x (Tensor[T, D]): tokens, sequence after sequence.
        position (Tensor[T, D]): position of each token.
        lengths: of the B sequences.
        first (Tensor[B], optional): int64, where each begins: only these tokens are computed.

    Returns:
        Tensor[T, D], or Tensor[B, D].
    """
    rate = layer.dropout if layer.training else 0.0
    attention = layer.self_attn
    weight, bias, width = attention.in_proj_weight, attention.in_proj_bias, x.shape[-1]
    placed = x + position  # q = k = x + position, v = x
    if first is None:
        q, k = linear(placed, weight[: 2 * width], bias[: 2 * width]).split(width, dim=-1)
    else:
        q = linear(placed.index_select(0, first), weight[:width], bias[:width])
        k = linear(placed, weight[width : 2 * width], bias[width : 2 * width])
    v = linear(x, weight[2 * width :], bias[2 * width :])
    mixed = _attend(q, k, v, lengths, layer.heads, rate, alone=first is not None)
    mixed = linear(mixed, attention.out_proj.weight, attention.out_proj.bias)
    own = x if first is None else x.index_select(0, first)
    x = layer.norm1(own + dropout(mixed, rate))
    inner = dropout(F.relu(linear(x, layer.linear1.weight, layer.linear1.bias)), rate)
    return layer.norm2(x + dropout(linear(inner, layer.linear2.weight, layer.linear2.bias), rate))


def _rows(features: Tensor, keep: Tensor, projection: torch.nn.Linear) -> tuple[Tensor, Tensor]:
    """Projected features where `keep`, (n, D), and the number of each among them, as `keep`."""
    flat = keep.flatten()
    chosen = features.flatten(0, 1).index_select(0, flat.nonzero()[:, 0])
    return linear(chosen, projection.weight, projection.bias), (flat.cumsum(0) - 1).view_as(keep)


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Sequence[int],
    heads: int,
    rate: float,
    *,
    alone: bool,
) -> Tensor:
    """Attention within each sequence, to its own tokens or, `alone`, to its first one: as q."""
    dtype = q.dtype
    parts = []
    # A reduced type would be copied into another layout for every product of a head.
    with torch.autocast(q.device.type, enabled=False):
        q, k, v = q.float(), k.float(), v.float()
        for count, queries, tokens in _runs(lengths, alone=alone):
            shape = (count, -1, heads, q.shape[-1] // heads)
            own = [t.view(shape).transpose(1, 2) for t in (q[queries], k[tokens], v[tokens])]
            mixed = _attention(own[0], own[1], own[2], rate)  # (count, H, queries, D / H)
            parts.append(mixed.transpose(1, 2).reshape(-1, q.shape[-1]))
    return torch.cat(parts).to(dtype)


def _attention(q: Tensor, k: Tensor, v: Tensor, rate: float) -> Tensor:
    if rate == 0:
        return F.scaled_dot_product_attention(q, k, v)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return dropout(scores.softmax(-1), rate) @ v


def _runs(lengths: Sequence[int], *, alone: bool) -> Iterator[tuple[int, slice, slice]]:
    """How many neighbours have one length, and where their queries and tokens lie."""
    token = query = 0
    for length, same in groupby(lengths):
        count = len(list(same))
        tokens, queries = count * length, count if alone else count * length
        yield count, slice(query, query + queries), slice(token, token + tokens)
        token, query = token + tokens, query + queries
