"""The fusion encoder on packed sequences without padding, for one model or several side by side.

The definition is `clipvg.model.fusion`. Here, tokens that nothing attends to are left out,
sequences are packed end to end, and the last layer computes only [REG]. It also serves training:
nothing is changed in place.

Shapes: n encoders of one architecture, T packed tokens (all sequences of a batch), B sequences, D
width, F feed-forward width, H heads, d = D / H.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipvg.model.fusion import FusionEncoder, FusionLayer
from clipvg.ops import packed_attention
from clipvg.ops.linear import linear
from clipvg.ops.runs import equal_runs

_STEPS = 1 << 16  # values of 16 random bits


class Sequences:
    """Layout of the B sequences of a batch among T packed tokens.

    Args:
        lengths: tokens of each sequence; each begins with its [REG].
        position: (T,) int64, each token's row in the position table.
        keep: (T,) bool, False for tokens that nothing may attend to; None when all are kept.
    """

    def __init__(self, lengths: Sequence[int], position: Tensor, keep: Tensor | None) -> None:
        self.position, self.keep = position, keep
        self.queries = self.keys = [0, *accumulate(lengths)]  # edges, (B + 1,)
        if keep is not None:
            before = [0, *keep.cumsum(0).tolist()]  # kept tokens before each
            self.keys = [before[edge] for edge in self.queries]

    @cached_property
    def first(self) -> Tensor:
        """The [REG] of each sequence, (B,) int64."""
        return torch.tensor(self.queries[:-1], device=self.position.device)


class Linear:
    """n linear maps of one shape: weight (n, out, in), bias (n, out)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        """Map (n, T, in) to (n, T, out)."""
        if x.is_cuda and len(x) > 1:
            return torch.baddbmm(self.bias[:, None], x, self.weight.mT)
        maps = zip(apart(x), apart(self.weight), apart(self.bias), strict=True)
        return joined([linear(*each) for each in maps])

    def rows(self, first: int, last: int) -> Linear:
        """Return the maps to outputs `first` to `last` - 1."""
        return Linear(self.weight[:, first:last], self.bias[:, first:last])


class Norm:
    """n layer norms of one width."""

    def __init__(self, weight: Tensor, bias: Tensor, eps: float) -> None:
        self.weight, self.bias, self.eps = weight, bias, eps  # (n, D) each

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise (n, T, D)."""
        if len(x) == 1:
            weight, bias = self.weight.squeeze(0), self.bias.squeeze(0)
            return F.layer_norm(x, x.shape[-1:], weight, bias, self.eps)
        normal = F.layer_norm(x, x.shape[-1:], eps=self.eps)
        return torch.addcmul(self.bias[:, None], normal, self.weight[:, None])


class Layer:
    """n fusion layers; their weights are cast to `dtype` unless it is None."""

    def __init__(
        self, layers: Sequence[FusionLayer], dtype: torch.dtype | None, *, drops: bool
    ) -> None:
        weight = stacked((layer.self_attn.in_proj_weight for layer in layers), dtype)
        bias = stacked((layer.self_attn.in_proj_bias for layer in layers), dtype)
        width, qkv = weight.shape[-1], Linear(weight, bias)
        self.q, self.k = qkv.rows(0, width), qkv.rows(width, 2 * width)
        self.qk, self.v = qkv.rows(0, 2 * width), qkv.rows(2 * width, 3 * width)
        self.out = linears([layer.self_attn.out_proj for layer in layers], dtype)
        self.inner = linears([layer.linear1 for layer in layers], dtype)
        self.outer = linears([layer.linear2 for layer in layers], dtype)
        self.norm1 = norms([layer.norm1 for layer in layers], dtype)
        self.norm2 = norms([layer.norm2 for layer in layers], dtype)
        self.heads = layers[0].heads
        self.rate = layers[0].dropout if drops else 0.0

    def __call__(
        self, x: Tensor, position: Tensor, sequences: Sequences, *, reg_only: bool
    ) -> Tensor:
        """Compute all tokens (n, T, D), or with `reg_only` [REG] of each sequence (n, B, D)."""
        placed = x + position  # q = k = x + position, v = x
        v = self.v(x)  # (n, T, D)
        if reg_only:
            x = taken(x, sequences.first)  # (n, B, D)
            q, k = self.q(taken(placed, sequences.first)), self.k(placed)
            queries = list(range(x.shape[1] + 1))
        else:
            q, k = self.qk(placed).split(x.shape[-1], dim=-1)
            queries = sequences.queries
        if sequences.keep is not None:
            k, v = k[:, sequences.keep], v[:, sequences.keep]
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in (q, k, v))  # (n, T, H, d)
        mixed = attend(q, k, v, queries, sequences.keys, self.rate).flatten(-2)
        x = self.norm1(x + dropout(self.out(mixed), self.rate))
        inner = dropout(F.relu(self.inner(x)), self.rate)  # (n, T or B, F)
        return self.norm2(x + dropout(self.outer(inner), self.rate))


class PackedFusion:
    """n fusion encoders of one architecture; their weights are cast to `dtype` unless it is None.

    It uses the encoders' own weights, so that a single encoder can be trained through it.
    """

    def __init__(
        self, encoders: Sequence[FusionEncoder], dtype: torch.dtype | None, *, drops: bool
    ) -> None:
        by_layer = zip(*(encoder.layers for encoder in encoders), strict=True)
        self.layers = [
            Layer(cast(tuple[FusionLayer, ...], layers), dtype, drops=drops) for layers in by_layer
        ]

    def __call__(self, x: Tensor, position: Tensor, sequences: Sequences) -> Tensor:
        """Return the [REG] states (n, B, D) after the last layer, from (n, T, D) each."""
        for layer in self.layers[:-1]:
            x = layer(x, position, sequences, reg_only=False)
        return self.layers[-1](x, position, sequences, reg_only=True)


def attend(
    q: Tensor, k: Tensor, v: Tensor, queries: list[int], keys: list[int], rate: float
) -> Tensor:
    """Attend within each sequence: q (n, Q, H, d), k and v (n, K, H, d) give (n, Q, H, d).

    `queries` and `keys`, (B + 1,), are the offsets of the sequences; `rate` is the dropout rate of
    the attention weights, which the operator does not support.
    """
    if rate == 0:
        of_queries, of_keys = (torch.tensor(edges, dtype=torch.int32) for edges in (queries, keys))
        longest, most = _longest(keys), _longest(queries)
        return packed_attention(q, k, v, of_keys, longest, cu_queries=of_queries, max_queries=most)
    parts = []
    # A reduced dtype would be copied into another layout for every product of a head.
    with torch.autocast(q.device.type, enabled=False):
        for run in equal_runs(queries, keys):
            own_q = _dense(q[:, run.query_tokens], run.count)  # (n, count, H, queries, d)
            own_k, own_v = (_dense(part[:, run.key_tokens], run.count) for part in (k, v))
            weights = (own_q * own_q.shape[-1] ** -0.5 @ own_k.mT).softmax(-1)
            mixed = dropout(weights, rate) @ own_v
            parts.append(mixed.transpose(2, 3).flatten(1, 2))
    return torch.cat(parts, dim=1).to(q.dtype)


def _dense(x: Tensor, count: int) -> Tensor:
    """View (n, count * length, H, d) as (n, count, H, length, d) float32."""
    return x.float().unflatten(1, (count, -1)).transpose(2, 3)


def _longest(edges: list[int]) -> int:
    return max((last - first for first, last in pairwise(edges)), default=0)


def dropout(x: Tensor, rate: float) -> Tensor:
    """Set each element to 0 with probability `rate` in [0, 1); scale the rest to keep the mean.

    On a CPU four elements share one draw of 64 bits, which takes a third of the time of one draw
    each; the rate is then the nearest multiple of 2^-16 below 1, and the scale fits that rate. At
    rate 0 it returns x itself.
    """
    if rate == 0:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, rate)
    dropped = min(_STEPS - 1, round(rate * _STEPS))
    count = x.numel()
    draws = torch.empty((count + 3) // 4, dtype=torch.int64)
    draws.random_(torch.iinfo(torch.int64).min, None)
    bits = draws.view(torch.int16)[:count].view(x.shape)
    kept = (bits >= dropped - _STEPS // 2).to(x.dtype)
    return x * kept.mul_(_STEPS / (_STEPS - dropped))


def taken(x: Tensor, index: Tensor) -> Tensor:
    """Return rows (T,) of x (n, V, ·): (n, T, ·).

    It uses index_select: the backward of x[:, index] would add in any order on several threads.
    """
    if len(x) == 1:
        return x.squeeze(0).index_select(0, index)[None]
    return x.index_select(1, index)


def apart(x: Tensor) -> Sequence[Tensor]:
    """Split a tensor (n, ...) into n; if n is 1, neither it nor its gradient is copied."""
    return (x.squeeze(0),) if len(x) == 1 else x.unbind()


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Stack n tensors into one; a single one is not copied."""
    return parts[0][None] if len(parts) == 1 else torch.stack(list(parts))


def stacked(tensors: Iterable[Tensor], dtype: torch.dtype | None) -> Tensor:
    """Stack n tensors in a dtype (None: their own); a single one of that dtype is not copied."""
    return joined([tensor.to(dtype or tensor.dtype) for tensor in tensors])


def linears(maps: Sequence[nn.Linear], dtype: torch.dtype | None) -> Linear:
    """Stack n linear maps."""
    weights = stacked((each.weight for each in maps), dtype)
    return Linear(weights, stacked((each.bias for each in maps), dtype))


def norms(modules: Sequence[nn.LayerNorm], dtype: torch.dtype | None) -> Norm:
    """Stack n layer norms."""
    weights = stacked((each.weight for each in modules), dtype)
    return Norm(weights, stacked((each.bias for each in modules), dtype), modules[0].eps)
