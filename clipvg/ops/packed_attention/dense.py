"""`packed_attention` in plain PyTorch: the definition, and dense attention by equal lengths.

Tensors are (n, T, H, d) for n measurers of T tokens. Gradients are given as well: an operator's
implementation runs below autograd.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.ops.packed_attention.checks import check_shapes
from clipvg.ops.runs import Run, equal_runs

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_MAX_WEIGHTS = 2**24  # of softmax that a gradient holds at a time, 64 MiB
_CACHED_WEIGHTS = 2**18  # of softmax of a run on a CPU: 1 MiB stays in its cache
_FUSED_WEIGHTS = 2**20  # of one sequence from which on fused attention is faster on a CPU


def check_tensors(q: Tensor, k: Tensor, v: Tensor, cu_queries: Tensor, cu_seqlens: Tensor) -> None:
    """Reject arguments of the wrong shape, dtype or device."""
    check_shapes(q.shape, k.shape, v.shape, cu_queries.shape, cu_seqlens.shape)
    if q.dtype not in DTYPES:
        raise ValueError(f"packed_attention: q is {q.dtype}; expected a floating dtype")
    for name, tensor in (("k", k), ("v", v)):
        if tensor.dtype != q.dtype or tensor.device != q.device:
            raise ValueError(
                f"packed_attention: q is {q.dtype} on {q.device} and {name} {tensor.dtype} on "
                f"{tensor.device}; expected one dtype and device"
            )
    for name, offsets in (("cu_seqlens", cu_seqlens), ("cu_queries", cu_queries)):
        if offsets.dtype != torch.int32 or offsets.device.type not in ("cpu", q.device.type):
            raise ValueError(
                f"packed_attention: {name} is {offsets.dtype} on {offsets.device}; "
                f"expected int32 on cpu or {q.device}"
            )


def _sequences(q: Tensor, cu_queries: Tensor, cu_seqlens: Tensor) -> Iterator[Run]:
    """Yield every sequence that has a query, by itself."""
    return equal_runs(cu_queries.tolist(), cu_seqlens.tolist(), most=0)


def _runs(q: Tensor, cu_queries: Tensor, cu_seqlens: Tensor) -> Iterator[Run]:
    """Yield sequences of equal lengths together: on a CPU as many as its cache holds."""
    most = _CACHED_WEIGHTS // max(1, q.shape[2]) if q.is_cpu else sys.maxsize
    return equal_runs(cu_queries.tolist(), cu_seqlens.tolist(), most)


def _dense(x: Tensor, tokens: slice, length: int) -> Tensor:
    """View some tokens (T, H, d) of one measurer as (count, H, length, d)."""
    return x[tokens].unflatten(0, (-1, length)).transpose(1, 2)


def reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_queries: Tensor,
    cu_seqlens: Tensor,
    max_queries: int,
    max_seqlen: int,
) -> tuple[Tensor, Tensor]:
    """The definition, sequence by sequence."""
    check_tensors(q, k, v, cu_queries, cu_seqlens)
    out = torch.zeros(q.shape, dtype=q.dtype, device=q.device)
    sums = torch.promote_types(q.dtype, torch.float32)
    for run in _sequences(q, cu_queries, cu_seqlens):
        of_q, of_k = run.query_tokens, run.key_tokens
        own_q, own_k, own_v = q[:, of_q].to(sums), k[:, of_k].to(sums), v[:, of_k].to(sums)
        scores = torch.einsum("nqhd,nkhd->nhqk", own_q * q.shape[-1] ** -0.5, own_k)
        mixed = torch.einsum("nhqk,nkhd->nqhd", scores.softmax(-1), own_v)
        out[:, of_q] = mixed.to(q.dtype)
    return out, q.new_empty(0, dtype=torch.float32)


def native(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_queries: Tensor,
    cu_seqlens: Tensor,
    max_queries: int,
    max_seqlen: int,
) -> tuple[Tensor, Tensor]:
    """Dense attention without a mask, once for each run of equal lengths."""
    check_tensors(q, k, v, cu_queries, cu_seqlens)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    native_into(out, q, k, v, cu_queries, cu_seqlens)
    return out, q.new_empty(0, dtype=torch.float32)


def native_into(
    out: Tensor, q: Tensor, k: Tensor, v: Tensor, cu_queries: Tensor, cu_seqlens: Tensor
) -> None:
    """Measurers one after the other: on a CPU batched products of several are slower."""
    is_exact = q.dtype in (torch.float32, torch.float64)
    for run in _runs(q, cu_queries, cu_seqlens):
        in_cache = q.is_cpu and is_exact and q.shape[2] * run.queries * run.keys <= _FUSED_WEIGHTS
        attend = _attend_in_cache if in_cache else _attend_fused
        for own_out, own_q, own_k, own_v in zip(out, q, k, v, strict=True):
            target = _dense(own_out, run.query_tokens, run.queries)
            if not run.keys:
                target.zero_()
                continue
            dense_k, dense_v = (_dense(x, run.key_tokens, run.keys) for x in (own_k, own_v))
            attend(target, _dense(own_q, run.query_tokens, run.queries), dense_k, dense_v)


def _attend_fused(target: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
    target.copy_(F.scaled_dot_product_attention(q, k, v))


def _attend_in_cache(target: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
    """Two products about a softmax: faster than fused attention while the weights are few."""
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    scores = torch.baddbmm(q.new_empty(()), q, k.mT, beta=0, alpha=q.shape[-1] ** -0.5)
    target.copy_((scores.softmax(-1) @ v).view(target.shape))


def zeros_like_parts(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Zeros of the shapes, contiguous."""
    to_q, to_k, to_v = (torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    return to_q, to_k, to_v


def _backward_of(
    find_runs: Callable[[Tensor, Tensor, Tensor], Iterator[Run]],
) -> Callable[..., Any]:
    """The gradient by its definition, dense over the runs that `find_runs` finds."""

    def backward(
        grad: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        out: Tensor,
        softmax: Tensor,
        cu_queries: Tensor,
        cu_seqlens: Tensor,
        max_queries: int,
        max_seqlen: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        grads = zeros_like_parts(q, k, v)
        sums = torch.promote_types(q.dtype, torch.float32)
        for run in find_runs(q, cu_queries, cu_seqlens):
            for i in range(len(q) if run.keys else 0):
                own_q, own_grad, to_q = (
                    _dense(x[i], run.query_tokens, run.queries) for x in (q, grad, grads[0])
                )
                own_k, own_v, to_k, to_v = (
                    _dense(x[i], run.key_tokens, run.keys) for x in (k, v, *grads[1:])
                )
                found = _dense_backward(*(x.to(sums) for x in (own_grad, own_q, own_k, own_v)))
                for target, value in zip((to_q, to_k, to_v), found, strict=True):
                    target.copy_(value)
        return grads

    return backward


def _dense_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q (B, H, Q, d), k and v (B, H, K, d), some queries at a time."""
    scale = q.shape[-1] ** -0.5
    to_q, to_k, to_v = (
        torch.empty_like(q),
        torch.zeros_like(k),
        torch.zeros_like(v),
    )
    step = max(1, _MAX_WEIGHTS // max(1, q.shape[0] * q.shape[1] * k.shape[2]))
    for own_q, own_grad, own_to in zip(
        *(x.split(step, dim=2) for x in (q, grad, to_q)), strict=True
    ):
        weights = (own_q * scale @ k.mT).softmax(-1)
        to_v += weights.mT @ own_grad
        to_weights = own_grad @ v.mT
        mean = (to_weights * weights).sum(-1, keepdim=True)
        to_scores = weights.mul_(to_weights.sub_(mean)).mul_(scale)
        own_to.copy_(to_scores @ k)
        to_k += to_scores.mT @ own_q
    return to_q, to_k, to_v


reference_backward = _backward_of(_sequences)
native_backward = _backward_of(_runs)
