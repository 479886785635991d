"""Fusion encoders and heads of n measurers as one stack of weights over packed sequences.

Shapes: n measurers, T packed tokens (all sequences of a batch one after the other), B sequences,
D width, H heads, d = D / H. The definition of what is computed here is `GroundingModel.fuse`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipvg.ops import multilevel_projection, packed_attention
from clipvg.ops.linear import linear, takes_onednn
from clipvg.reliability.engine.config import Optimisations

if TYPE_CHECKING:
    from clipvg.model import GroundingModel

Group = tuple[int, int, int]  # first token, number of sequences, length of each


@dataclass(frozen=True)
class Sequences:
    """Where the B sequences of a batch lie among T packed tokens.

    Attributes:
        lengths: (B,) int64, equal ones side by side.
        position: (T,) int64, each token's row in the position table.
        keep: (T,) bool, False for tokens that nothing may attend to; None when all are kept.
    """

    lengths: np.ndarray
    position: Tensor
    keep: Tensor | None

    def groups(self) -> Iterator[Group]:
        """Yield runs of sequences of one length."""
        edges = np.flatnonzero(np.diff(self.lengths)) + 1
        first = 0
        for lengths in np.split(self.lengths, edges):
            yield first, len(lengths), int(lengths[0])
            first += int(lengths.sum())

    @cached_property
    def edges(self) -> Tensor:
        """Where each sequence begins and the last one ends, (B + 1,) int32, on the host."""
        return torch.from_numpy(np.append(0, np.cumsum(self.lengths)).astype(np.int32))

    def first_tokens(self) -> Tensor:
        """Return where each sequence begins: its [REG], (B,) int64."""
        return self.edges[:-1].to(self.position.device, torch.int64)


class Linear:
    """n linear maps of one shape."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias  # (n, out, in), (n, out)

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Map (n, T, in) to (n, T, out)."""
        if x.is_cuda:
            return torch.baddbmm(self.bias[:, None], x, self.weight.mT)
        if takes_onednn(x, self.weight[0]):
            maps = zip(x, self.weight, self.bias, strict=True)
            own = [linear(part, weight, bias) for part, weight, bias in maps]
            return own[0][None] if len(own) == 1 else torch.stack(own)
        out = x.new_empty(*x.shape[:2], self.bias.shape[1]) if out is None else out
        for i, (weight, bias) in enumerate(zip(self.weight, self.bias, strict=True)):
            torch.addmm(bias, x[i], weight.T, out=out[i])
        return out

    def add_to(self, out: Tensor, x: Tensor) -> Tensor:
        """Add the maps of ``x`` without their bias to ``out`` (n, T, out), in place."""
        if x.is_cuda:
            return out.baddbmm_(x, self.weight.mT)
        for part, rows, weight in zip(out, x, self.weight, strict=True):
            if takes_onednn(rows, weight):
                part.add_(linear(rows, weight))
            else:
                part.addmm_(rows, weight.T)
        return out


class Scratch:
    """Memory that is taken again and again: on a CPU fresh pages cost as much as a product."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """Return uninitialised memory of a shape; the last that was taken by this name is lost."""
        count = math.prod(shape)
        kept = self._kept.get(name)
        if kept is None or len(kept) < count:
            kept = self._kept[name] = like.new_empty(count)
        return kept[:count].view(shape)


class Norm:
    """n layer norms of one width."""

    def __init__(self, weight: Tensor, bias: Tensor, eps: float) -> None:
        self.weight, self.bias, self.eps = weight[:, None], bias[:, None], eps

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise (n, T, D)."""
        if len(self.weight) == 1:
            return F.layer_norm(x, x.shape[-1:], self.weight[0, 0], self.bias[0, 0], self.eps)
        normal = F.layer_norm(x, x.shape[-1:], eps=self.eps)
        return torch.addcmul(self.bias, normal, self.weight)


class _Stacker:
    """Takes one tensor or module of each model and stacks them."""

    def __init__(self, modules: Sequence[Any], dtype: torch.dtype) -> None:
        self._modules, self._dtype = modules, dtype

    def of(self, part: Callable[[Any], nn.Module]) -> _Stacker:
        """Return the stacker of a part of the modules."""
        return _Stacker([part(module) for module in self._modules], self._dtype)

    def tensor(self, part: Callable[[Any], Tensor]) -> Tensor:
        """Return the tensors (n, …)."""
        return torch.stack([part(module).detach().to(self._dtype) for module in self._modules])

    def linear(self, part: Callable[[Any], nn.Module]) -> Linear:
        """Return the linear maps."""
        maps = self.of(part)
        return Linear(maps.tensor(lambda each: each.weight), maps.tensor(lambda each: each.bias))

    def norm(self, part: Callable[[Any], nn.Module]) -> Norm:
        """Return the layer norms."""
        norms = self.of(part)
        weight, bias = norms.tensor(lambda each: each.weight), norms.tensor(lambda each: each.bias)
        return Norm(weight, bias, norms._modules[0].eps)


class Layer:
    """n fusion layers; see `clipvg.model.fusion.FusionLayer`."""

    def __init__(self, layers: _Stacker, position: Tensor) -> None:
        weight = layers.tensor(lambda layer: layer.self_attn.in_proj_weight)
        bias = layers.tensor(lambda layer: layer.self_attn.in_proj_bias)
        width = weight.shape[-1]
        self.qkv = Linear(weight, bias)
        self.qk = Linear(weight[:, : 2 * width], bias[:, : 2 * width])
        self.q, self.k, self.v = (
            Linear(weight[:, part], bias[:, part])
            for part in (slice(width), slice(width, 2 * width), slice(2 * width, None))
        )
        # (x + p) W + b = x W + (p W + b): p W + b is a row of this table
        self.qkv_bias = bias[:, None].repeat(1, position.shape[1], 1)
        self.qk.add_to(self.qkv_bias[..., : 2 * width], position)
        self.out = layers.linear(lambda layer: layer.self_attn.out_proj)
        self.inner = layers.linear(lambda layer: layer.linear1)
        self.outer = layers.linear(lambda layer: layer.linear2)
        self.norm1 = layers.norm(lambda layer: layer.norm1)
        self.norm2 = layers.norm(lambda layer: layer.norm2)

    def finish(self, x: Tensor, mixed: Tensor, scratch: Scratch) -> Tensor:
        """Return the output (n, T, D) from the input, which is overwritten, and the attention."""
        x = self.norm1(self.out.add_to(x.add_(self.out.bias[:, None]), mixed))
        inner = scratch.take("inner", x, *x.shape[:2], self.inner.bias.shape[1])
        inner = self.inner(x, out=inner).relu_()
        return self.norm2(self.outer.add_to(x.add_(self.outer.bias[:, None]), inner))


class HeadStack:
    """Everything of n measurers behind their frozen towers, as one stack of weights.

    Args:
        models: measurers of one architecture; see `stack_key`.
        dtype: of weights and tokens.
        does: what is left out or shared.
    """

    def __init__(
        self, models: Sequence[GroundingModel], dtype: torch.dtype, does: Optimisations
    ) -> None:
        first = models[0]
        self.does, self.device, self.dtype = does, first.device, dtype
        self.heads = first.config.heads
        self._scratch = Scratch()
        self.text_length = first.backbone.context_length

        stack = _Stacker(models, dtype)
        self.reg = stack.tensor(lambda model: model.reg_token.weight)  # (n, 1, D)
        self.position = stack.tensor(lambda model: model.position.weight)
        self.text = stack.linear(lambda model: model.text_projection)
        self.visual = stack.linear(lambda model: model.visual_projection)
        layers = stack.of(lambda model: model.fusion.layers)
        self.layers = [
            Layer(layers.of(itemgetter(i)), self.position) for i in range(len(first.fusion.layers))
        ]
        head = stack.of(lambda model: model.head.layers)
        self.head = [head.linear(itemgetter(i)) for i in range(3)]

    def project_text(self, features: Tensor) -> Tensor:
        """Project text features (T, E) to (n, T, D)."""
        return self.text(features.expand(len(self.reg), -1, -1))

    def project_visual(
        self, levels: Sequence[Sequence[Tensor]], index: Tensor, out: Tensor
    ) -> None:
        """Project rows (T,) of the levels (V, W) of each measurer's image tower to (n, T, D)."""
        if not self.does.split_projection:
            side_by_side = [torch.cat([level[index] for level in own], dim=-1) for own in levels]
            out.copy_(self.visual(torch.stack(side_by_side)))
            return
        maps = zip(levels, self.visual.weight, self.visual.bias, out, strict=True)
        for own, weight, bias, rows in maps:
            multilevel_projection(own, weight, bias, index=index, out=rows)

    def first_qkv(self, x: Tensor, position: Tensor) -> Tensor | None:
        """Queries, keys and values of the first layer (n, T, 3D); None where nothing needs them."""
        if self.does.reg_only and len(self.layers) == 1:
            return None
        return self._qkv(self.layers[0], x, position, "first")

    def boxes(self, x: Tensor, qkv: Tensor | None, sequences: Sequences) -> Tensor:
        """Run all layers and the head.

        Args:
            x: (n, T, D) tokens, overwritten.
            qkv: (n, T, 3D) of the first layer, from `first_qkv`.
            sequences: where the sequences are.

        Returns:
            (n, B, 4) float32 cxcywh in [0, 1].
        """
        regs = sequences.first_tokens()
        for i, layer in enumerate(self.layers):
            if self.does.reg_only and i == len(self.layers) - 1:
                mixed = self._reg_attention(layer, x, regs, sequences)
                return self._head(layer.finish(x[:, regs], mixed, self._scratch))
            qkv = self._qkv(layer, x, sequences.position, "qkv") if i else qkv
            assert qkv is not None
            x = layer.finish(x, self._attention(qkv, sequences), self._scratch)
        return self._head(x[:, regs])

    def gather(self, name: str, rows: Tensor, index: Tensor) -> Tensor:
        """Return rows (n, V, ·) by index (T,): (n, T, ·) in scratch memory of a name."""
        out = self._scratch.take(name, rows, len(rows), len(index), rows.shape[2])
        return torch.index_select(rows, 1, index, out=out)

    def _qkv(self, layer: Layer, x: Tensor, position: Tensor, name: str) -> Tensor:
        if self.does.fold_positions:
            return layer.qkv.add_to(self.gather(name, layer.qkv_bias, position), x)
        placed = x + self.position.index_select(1, position)  # q = k = x + position, v = x
        return torch.cat([layer.qk(placed), layer.v(x)], dim=-1)

    def _attention(self, qkv: Tensor, sequences: Sequences) -> Tensor:
        """Attend within each sequence, (n, T, 3D) to (n, T, D)."""
        parts = qkv.unflatten(-1, (3, self.heads, -1))  # (n, T, 3, H, d)
        if sequences.keep is None:
            q, k, v = parts.unbind(2)
            longest = int(sequences.lengths.max(initial=0))
            out = None if q.is_cuda else self._scratch.take("mixed", q, *q.shape)
            return packed_attention(q, k, v, sequences.edges, longest, out=out).flatten(-2)
        batch = len(sequences.lengths)  # of padded sequences, which are all of one length
        mask = self._mask(sequences, slice(None), batch)
        mixed = []
        for own in parts:
            q, k, v = own.unflatten(0, (batch, -1)).permute(2, 0, 3, 1, 4)
            heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, H, S, d)
            mixed.append(heads.transpose(1, 2).reshape(qkv.shape[1], -1))
        return torch.stack(mixed)

    def _reg_attention(self, layer: Layer, x: Tensor, regs: Tensor, sequences: Sequences) -> Tensor:
        """Attend from [REG] alone, (n, T, D) to (n, B, D), without forming keys and values.

        q·(W_k (x + p) + b_k) is (W_kᵀ q)·(x + p) plus a constant that softmax does not see, and
        Σ a (W_v x + b_v) is W_v Σ a x + b_v: both matrices meet one vector a head, not T.
        """
        by_head = (-1, self.heads, x.shape[-1] // self.heads, x.shape[-1])
        query = layer.q(x[:, regs] + self.position[:, :1]).unflatten(-1, (self.heads, -1))
        query = torch.einsum("nbhd,nhdw->nbhw", query, layer.k.weight.view(by_head))
        query *= by_head[2] ** -0.5
        placed = x + self.position.index_select(1, sequences.position)
        mixed = torch.empty_like(query)
        done = 0
        for first, count, length in sequences.groups():
            tokens = slice(first, first + count * length)
            mask = self._mask(sequences, tokens, count)
            for i in range(len(x)):
                keys = placed[i, tokens].view(count, length, -1)
                scores = keys @ query[i, done : done + count].mT  # (count, length, H)
                if mask is not None:
                    scores = scores.masked_fill(~mask[:, 0].mT, -torch.inf)
                weights = scores.float().softmax(1).to(x.dtype)
                values = x[i, tokens].view(count, length, -1)
                mixed[i, done : done + count] = weights.mT @ values
            done += count
        value = torch.einsum("nbhw,nhdw->nbhd", mixed, layer.v.weight.view(by_head)).flatten(-2)
        return value + layer.v.bias[:, None]

    @staticmethod
    def _mask(sequences: Sequences, tokens: slice, count: int) -> Tensor | None:
        """Which keys of some sequences may be attended to, (count, 1, 1, length) bool."""
        return None if sequences.keep is None else sequences.keep[tokens].view(count, 1, 1, -1)

    def _head(self, state: Tensor) -> Tensor:
        hidden = self.head[1](self.head[0](state).relu_()).relu_()
        return self.head[2](hidden).float().sigmoid()


def architecture(model: GroundingModel) -> tuple[Any, ...]:
    """Return what models must share to be stacked."""
    config, backbone = model.config, model.backbone
    sizes = (config.width, config.layers, config.heads, config.feedforward)
    return (*sizes, backbone.feature_width, backbone.width, backbone.embed_dim)
