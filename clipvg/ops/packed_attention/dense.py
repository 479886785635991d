"""`packed_attention` in plain PyTorch: the reference, and dense attention over equal lengths.

Tensors are (n, T, H, d) for n measurers of T tokens. Gradients are implemented as well, because an
operator's implementation runs below autograd.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.errors import InputError
from clipvg.ops.runs import Run, equal_runs

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_MAX_WEIGHTS = 2**24  # softmax weights that a gradient holds at a time, 64 MiB
_CACHED_WEIGHTS = 2**18  # softmax weights of a run on a CPU: 1 MiB stays in its cache
_FUSED_WEIGHTS = 2**20  # softmax weights of a sequence; above, fused attention is faster on a CPU

Grads = tuple[Tensor, Tensor, Tensor]


class Packed(NamedTuple):
    """Arguments of the operators, in the order of their schema; see the public function."""

    q: Tensor
    k: Tensor
    v: Tensor
    cu_queries: Tensor
    cu_seqlens: Tensor
    max_queries: int
    max_seqlen: int


def _check_shapes(given: Packed) -> None:
    of_q, of_k, of_v = (tuple(tensor.shape) for tensor in given[:3])
    if len(of_q) != 4 or len(of_k) != 4:
        raise InputError(
            f"packed_attention: q has shape {of_q} and k {of_k}; "
            "expected (T, H, d), or (n, T, H, d) for n measurers"
        )
    if of_v != of_k:
        raise InputError(f"packed_attention: v has shape {of_v}; expected that of k {of_k}")
    if of_q[0] != of_k[0] or of_q[2:] != of_k[2:]:
        raise InputError(
            f"packed_attention: q has shape {of_q} and k {of_k}; "
            "expected the same n, heads and head width"
        )
    if of_q[3] == 0:
        raise InputError(
            f"packed_attention: q has shape {of_q}; expected a head width d of at least 1"
        )
    entries = {"cu_seqlens": given.cu_seqlens.shape, "cu_queries": given.cu_queries.shape}
    for name, shape in entries.items():
        if len(shape) != 1 or shape[0] < 1:
            raise InputError(
                f"packed_attention: {name} has shape {tuple(shape)}; expected (B + 1,), at least 1"
            )
    of_keys, of_queries = (shape[0] for shape in entries.values())
    if of_queries != of_keys:
        raise InputError(
            f"packed_attention: cu_queries has {of_queries} entries and cu_seqlens {of_keys}; "
            "expected as many"
        )


def check_offsets(name: str, offsets: Sequence[int], tokens: int, longest: int) -> None:
    """Reject offsets that are not 0, ..., T in order, or sequences longer than `longest`."""
    if offsets[0] != 0 or offsets[-1] != tokens:
        raise InputError(
            f"packed_attention: {name} runs from {offsets[0]} to {offsets[-1]}; "
            f"expected 0 to {tokens}, the number of tokens"
        )
    for i, (first, end) in enumerate(pairwise(offsets)):
        if not 0 <= end - first <= longest:
            raise InputError(
                f"packed_attention: sequence {i} of {name} has {end - first} tokens; "
                f"expected 0 to {longest}, the longest that was given"
            )


def check_tensors(given: Packed) -> None:
    """Reject arguments of the wrong shape, dtype or device."""
    _check_shapes(given)
    q, k, v, cu_queries, cu_seqlens = given[:5]
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


def _edges(given: Packed) -> tuple[list[int], list[int]]:
    """Return the offsets of queries and of keys on the host; check those that were on a device."""
    q, k, _, cu_queries, cu_seqlens, max_queries, max_seqlen = given
    of_queries, of_keys = cu_queries.tolist(), cu_seqlens.tolist()
    if not cu_queries.is_cpu:
        check_offsets("cu_queries", of_queries, q.shape[1], max_queries)
    if not cu_seqlens.is_cpu:
        check_offsets("cu_seqlens", of_keys, k.shape[1], max_seqlen)
    return of_queries, of_keys


def _sequences(given: Packed) -> Iterator[Run]:
    """Yield every sequence that has a query, by itself."""
    return equal_runs(*_edges(given), most=0)


def _runs(given: Packed) -> Iterator[Run]:
    """Yield sequences of equal lengths together: on a CPU as many as its cache holds."""
    most = _CACHED_WEIGHTS // max(1, given.q.shape[2]) if given.q.is_cpu else sys.maxsize
    return equal_runs(*_edges(given), most)


def _dense(x: Tensor, tokens: slice, length: int) -> Tensor:
    """View some tokens (T, H, d) of one measurer as (count, H, length, d)."""
    return x[tokens].unflatten(0, (-1, length)).transpose(1, 2)


def reference(given: Packed) -> tuple[Tensor, Tensor]:
    """Define the operator, sequence by sequence."""
    check_tensors(given)
    q, k, v = given[:3]
    out = torch.zeros(q.shape, dtype=q.dtype, device=q.device)
    sums = torch.promote_types(q.dtype, torch.float32)
    for run in _sequences(given):
        of_q, of_k = run.query_tokens, run.key_tokens
        own_q, own_k, own_v = q[:, of_q].to(sums), k[:, of_k].to(sums), v[:, of_k].to(sums)
        scores = torch.einsum("nqhd,nkhd->nhqk", own_q * q.shape[-1] ** -0.5, own_k)
        mixed = torch.einsum("nhqk,nkhd->nqhd", scores.softmax(-1), own_v)
        out[:, of_q] = mixed.to(q.dtype)
    return out, q.new_empty(0, dtype=torch.float32)


def native(given: Packed) -> tuple[Tensor, Tensor]:
    """Compute dense attention without a mask, once for each run of equal lengths."""
    check_tensors(given)
    q = given.q
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    native_into(out, given)
    return out, q.new_empty(0, dtype=torch.float32)


def native_into(out: Tensor, given: Packed) -> None:
    """Compute `native` into `out`, one measurer at a time: batching them is slower on a CPU."""
    q, k, v = given[:3]
    is_exact = q.dtype in (torch.float32, torch.float64)
    for run in _runs(given):
        in_cache = q.is_cpu and is_exact and q.shape[2] * run.queries * run.keys <= _FUSED_WEIGHTS
        attend = _attend_in_cache if in_cache else _attend_fused
        for own_out, own_q, own_k, own_v in zip(out, q, k, v, strict=True):
            target = _dense(own_out, run.query_tokens, run.queries)  # (count, H, queries, d)
            if not run.keys:
                target.zero_()
                continue
            dense_k, dense_v = (_dense(x, run.key_tokens, run.keys) for x in (own_k, own_v))
            attend(target, _dense(own_q, run.query_tokens, run.queries), dense_k, dense_v)


def _attend_fused(target: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
    target.copy_(F.scaled_dot_product_attention(q, k, v))


def _attend_in_cache(target: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
    """Compute product, softmax, product: faster than fused attention while weights are few."""
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    scores = torch.baddbmm(q.new_empty(()), q, k.mT, beta=0, alpha=q.shape[-1] ** -0.5)
    target.copy_((scores.softmax(-1) @ v).view(target.shape))


def zeros_like_parts(given: Packed) -> Grads:
    """Return contiguous zeros of the shapes of q, k and v."""
    to_q, to_k, to_v = (torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in given[:3])
    return to_q, to_k, to_v


def _backward(grad: Tensor, given: Packed, find_runs: Callable[[Packed], Iterator[Run]]) -> Grads:
    """Compute the gradient by its definition, densely over the runs that `find_runs` finds."""
    q, k, v = given[:3]
    grads = zeros_like_parts(given)
    sums = torch.promote_types(q.dtype, torch.float32)
    for run in find_runs(given):
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


def _dense_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Grads:
    """Return gradients of q (B, H, Q, d), k and v (B, H, K, d), some queries at a time."""
    scale = q.shape[-1] ** -0.5
    to_q, to_k, to_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    step = max(1, _MAX_WEIGHTS // max(1, q.shape[0] * q.shape[1] * k.shape[2]))
    for own_q, own_grad, own_to in zip(
        *(x.split(step, dim=2) for x in (q, grad, to_q)), strict=True
    ):
        weights = (own_q * scale @ k.mT).softmax(-1)  # (B, H, some Q, K)
        to_v += weights.mT @ own_grad
        to_weights = own_grad @ v.mT
        mean = (to_weights * weights).sum(-1, keepdim=True)
        to_scores = weights.mul_(to_weights.sub_(mean)).mul_(scale)
        own_to.copy_(to_scores @ k)
        to_k += to_scores.mT @ own_q
    return to_q, to_k, to_v


def reference_backward(grad: Tensor, given: Packed, out: Tensor, softmax: Tensor) -> Grads:
    """Compute the gradient sequence by sequence."""
    return _backward(grad, given, _sequences)


def native_backward(grad: Tensor, given: Packed, out: Tensor, softmax: Tensor) -> Grads:
    """Compute the gradient once for each run of equal lengths."""
    return _backward(grad, given, _runs)
