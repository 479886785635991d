"""Attention within packed sequences, forward and backward: no padding, no atomics.

Tensors are (n, T, H, d) with any strides (a last axis that is not contiguous is copied). A program
owns a block of queries (or, for the gradients of keys and values, of keys) of one sequence and one
head of one measurer; a program past the end of its sequence leaves at once. Where the forward pass
takes several sequences a program, it owns a block of the packed queries, whosever they are, and
each sees the keys of its own sequence. Softmax is online in float32, in base 2. Each output row is
written by one program, so results do not vary. Offsets are bounded where they are read: wrong ones
give wrong results, and no access outside the tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from clipvg.kernels._tune import Blocks, choose_blocks, forward_blocks

LOG2E = 1.4426950408889634


@triton.jit
def _rows(pointer, measurer, head, first, rows, dims, stride_n, stride_t, stride_h):
    """Addresses of some rows of one head, (rows, dims), of 64 bits: n * T * H * d may be large."""
    base = pointer + measurer.to(tl.int64) * stride_n + head.to(tl.int64) * stride_h
    return base + (first + rows).to(tl.int64)[:, None] * stride_t + dims[None, :]


@triton.jit
def _place(offsets, sequence, tokens):
    """First token of a sequence, or of some, and its length."""
    first = tl.minimum(tl.maximum(tl.load(offsets + sequence), 0), tokens)
    end = tl.minimum(tl.maximum(tl.load(offsets + sequence + 1), first), tokens)
    return first, end - first


@triton.jit
def _sequence_of(offsets, rows, sequences, steps):
    """The sequence of each row: the last one that begins at it or before, by bisection."""
    low, high = rows * 0, rows * 0 + sequences - 1
    for _ in range(0, steps):
        middle = (low + high + 1) // 2
        begins_later = tl.load(offsets + middle) > rows
        high = tl.where(begins_later, middle - 1, high)
        low = tl.where(begins_later, low, middle)
    return low


@triton.jit
def _forward_kernel(
    q, k, v, out, softmax, cu_q, cu_k,
    q_n, q_t, q_h, k_n, k_t, k_h, v_n, v_t, v_h, o_n, o_t, o_h,
    heads, total_q, total_k, sequences, steps, blocks, scale,
    D: tl.constexpr, WIDTH: tl.constexpr, M: tl.constexpr, N: tl.constexpr, SEVERAL: tl.constexpr,
):  # fmt: skip
    """M queries a program: of one sequence, or SEVERAL: of all that lie in a block of M tokens."""
    block = tl.program_id(0) % blocks
    measurer, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    rows, columns, dims = block * M + tl.arange(0, M), tl.arange(0, N), tl.arange(0, WIDTH)
    if SEVERAL:
        first_q, queries = 0, total_q
        own = _sequence_of(cu_q, tl.minimum(rows, total_q - 1), sequences, steps)
        begin, lengths = _place(cu_k, own, total_k)  # (M,)
        first_k, start_k, keys = 0, tl.min(begin, 0), tl.max(begin + lengths, 0)
    else:
        first_q, queries = _place(cu_q, tl.program_id(0) // blocks, total_q)
        first_k, keys = _place(cu_k, tl.program_id(0) // blocks, total_k)
        start_k = 0
    if block * M >= queries:
        return
    inside, real = rows < queries, dims < D
    q_mask = inside[:, None] & real[None, :]
    own_q = tl.load(
        _rows(q, measurer, head, first_q, rows, dims, q_n, q_t, q_h), mask=q_mask, other=0.0
    )
    highest = tl.full((M,), -float("inf"), tl.float32)
    total = tl.zeros((M,), tl.float32)
    mixed = tl.zeros((M, WIDTH), tl.float32)
    for start in range(start_k, keys, N):
        seen = start + columns < keys
        k_mask = seen[:, None] & real[None, :]
        own_k = tl.load(
            _rows(k, measurer, head, first_k, start + columns, dims, k_n, k_t, k_h),
            mask=k_mask, other=0.0,
        )  # fmt: skip
        scores = tl.dot(own_q, tl.trans(own_k), input_precision="ieee") * scale
        visible = seen[None, :]
        if SEVERAL:
            past = (start + columns)[None, :] - begin[:, None]  # the begin of a row's own keys
            visible = visible & (past >= 0) & (past < lengths[:, None])
        scores = tl.where(visible, scores, -float("inf"))
        raised = tl.maximum(highest, tl.max(scores, 1))
        if SEVERAL:  # a step may show a row none of its keys: no power of infinity less infinity
            base = tl.where(raised == -float("inf"), 0.0, raised)
        else:
            base = raised
        weights = tl.exp2(scores - base[:, None])
        kept = tl.exp2(highest - base)
        total = total * kept + tl.sum(weights, 1)
        own_v = tl.load(
            _rows(v, measurer, head, first_k, start + columns, dims, v_n, v_t, v_h),
            mask=k_mask, other=0.0,
        )  # fmt: skip
        mixed = tl.dot(
            weights.to(own_v.dtype), own_v, mixed * kept[:, None], input_precision="ieee"
        )
        highest = raised
    # Without keys: 0.
    mixed = mixed / tl.where(total == 0.0, 1.0, total)[:, None]
    target = _rows(out, measurer, head, first_q, rows, dims, o_n, o_t, o_h)
    tl.store(target, mixed.to(out.dtype.element_ty), mask=q_mask)
    # Apart, not as one logarithm: next to a logit of 1e4 float32 would round the sum away.
    of_rows = softmax + tl.program_id(1).to(tl.int64) * total_q + first_q + rows
    tl.store(of_rows, highest, mask=inside)
    tl.store(of_rows + tl.num_programs(1).to(tl.int64) * total_q, total, mask=inside)


@triton.jit
def _mean_kernel(
    grad, out, mean, g_n, g_t, g_h, o_n, o_t, o_h,
    heads, total_q, blocks,
    D: tl.constexpr, WIDTH: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Σ grad · out of each query: the mean, by softmax's weights, of the weights' gradients."""
    measurer, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    rows, dims = tl.program_id(0).to(tl.int64) * M + tl.arange(0, M), tl.arange(0, WIDTH)
    mask = (rows < total_q)[:, None] & (dims < D)[None, :]
    own_grad = tl.load(
        _rows(grad, measurer, head, 0, rows, dims, g_n, g_t, g_h), mask=mask, other=0.0
    )
    own_out = tl.load(
        _rows(out, measurer, head, 0, rows, dims, o_n, o_t, o_h), mask=mask, other=0.0
    )
    found = tl.sum(own_grad.to(tl.float32) * own_out.to(tl.float32), 1)
    tl.store(mean + tl.program_id(1).to(tl.int64) * total_q + rows, found, mask=rows < total_q)


@triton.jit
def _query_gradient_kernel(
    grad, q, k, v, softmax, mean, to_q, cu_q, cu_k,
    g_n, g_t, g_h, q_n, q_t, q_h, k_n, k_t, k_h, v_n, v_t, v_h, o_n, o_t, o_h,
    heads, total_q, total_k, blocks, scale, natural,
    D: tl.constexpr, WIDTH: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    sequence, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    measurer, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    first_q, queries = _place(cu_q, sequence, total_q)
    if block * M >= queries:
        return
    first_k, keys = _place(cu_k, sequence, total_k)
    rows, columns, dims = block * M + tl.arange(0, M), tl.arange(0, N), tl.arange(0, WIDTH)
    inside, real = rows < queries, dims < D
    q_mask = inside[:, None] & real[None, :]
    own_q = tl.load(
        _rows(q, measurer, head, first_q, rows, dims, q_n, q_t, q_h), mask=q_mask, other=0.0
    )
    own_grad = tl.load(
        _rows(grad, measurer, head, first_q, rows, dims, g_n, g_t, g_h), mask=q_mask, other=0.0
    )
    of_rows = tl.program_id(1).to(tl.int64) * total_q + first_q + rows
    highest = tl.load(softmax + of_rows, mask=inside, other=0.0)[:, None]
    of_sums = of_rows + tl.num_programs(1).to(tl.int64) * total_q
    share = 1.0 / tl.load(softmax + of_sums, mask=inside, other=1.0)[:, None]
    own_mean = tl.load(mean + of_rows, mask=inside, other=0.0)[:, None]
    found = tl.zeros((M, WIDTH), tl.float32)
    for start in range(0, keys, N):
        seen = start + columns < keys
        k_mask = seen[:, None] & real[None, :]
        own_k = tl.load(
            _rows(k, measurer, head, first_k, start + columns, dims, k_n, k_t, k_h),
            mask=k_mask, other=0.0,
        )  # fmt: skip
        own_v = tl.load(
            _rows(v, measurer, head, first_k, start + columns, dims, v_n, v_t, v_h),
            mask=k_mask, other=0.0,
        )  # fmt: skip
        scores = tl.dot(own_q, tl.trans(own_k), input_precision="ieee") * scale
        weights = tl.where(seen[None, :], tl.exp2(scores - highest) * share, 0.0)
        to_weights = tl.dot(own_grad, tl.trans(own_v), input_precision="ieee")
        to_scores = weights * (to_weights - own_mean)
        found = tl.dot(to_scores.to(own_k.dtype), own_k, found, input_precision="ieee")
    target = _rows(to_q, measurer, head, first_q, rows, dims, o_n, o_t, o_h)
    tl.store(target, (found * natural).to(to_q.dtype.element_ty), mask=q_mask)


@triton.jit
def _key_gradient_kernel(
    grad, q, k, v, softmax, mean, to_k, to_v, cu_q, cu_k,
    g_n, g_t, g_h, q_n, q_t, q_h, k_n, k_t, k_h, v_n, v_t, v_h, o_n, o_t, o_h,
    heads, total_q, total_k, blocks, scale, natural,
    D: tl.constexpr, WIDTH: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """M keys a program, N queries a step: weights are held transposed, (keys, queries)."""
    sequence, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    measurer, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    first_k, keys = _place(cu_k, sequence, total_k)
    if block * M >= keys:
        return
    first_q, queries = _place(cu_q, sequence, total_q)
    rows, columns, dims = block * M + tl.arange(0, M), tl.arange(0, N), tl.arange(0, WIDTH)
    real = dims < D
    k_mask = (rows < keys)[:, None] & real[None, :]
    own_k = tl.load(
        _rows(k, measurer, head, first_k, rows, dims, k_n, k_t, k_h), mask=k_mask, other=0.0
    )
    own_v = tl.load(
        _rows(v, measurer, head, first_k, rows, dims, v_n, v_t, v_h), mask=k_mask, other=0.0
    )
    found_k = tl.zeros((M, WIDTH), tl.float32)
    found_v = tl.zeros((M, WIDTH), tl.float32)
    of_head = tl.program_id(1).to(tl.int64) * total_q + first_q
    for start in range(0, queries, N):
        seen = start + columns < queries
        q_mask = seen[:, None] & real[None, :]
        own_q = tl.load(
            _rows(q, measurer, head, first_q, start + columns, dims, q_n, q_t, q_h),
            mask=q_mask, other=0.0,
        )  # fmt: skip
        own_grad = tl.load(
            _rows(grad, measurer, head, first_q, start + columns, dims, g_n, g_t, g_h),
            mask=q_mask, other=0.0,
        )  # fmt: skip
        of_rows = of_head + start + columns
        highest = tl.load(softmax + of_rows, mask=seen, other=0.0)[None, :]
        of_sums = of_rows + tl.num_programs(1).to(tl.int64) * total_q
        share = 1.0 / tl.load(softmax + of_sums, mask=seen, other=1.0)[None, :]
        own_mean = tl.load(mean + of_rows, mask=seen, other=0.0)[None, :]
        scores = tl.dot(own_k, tl.trans(own_q), input_precision="ieee") * scale
        weights = tl.where(seen[None, :], tl.exp2(scores - highest) * share, 0.0)
        found_v = tl.dot(weights.to(own_grad.dtype), own_grad, found_v, input_precision="ieee")
        to_weights = tl.dot(own_v, tl.trans(own_grad), input_precision="ieee")
        to_scores = weights * (to_weights - own_mean)
        found_k = tl.dot(to_scores.to(own_q.dtype), own_q, found_k, input_precision="ieee")
    target = _rows(to_k, measurer, head, first_k, rows, dims, o_n, o_t, o_h)
    tl.store(target, (found_k * natural).to(to_k.dtype.element_ty), mask=k_mask)
    target = _rows(to_v, measurer, head, first_k, rows, dims, o_n, o_t, o_h)
    tl.store(target, found_v.to(to_v.dtype.element_ty), mask=k_mask)


def _contiguous_rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _strides(*tensors: Tensor) -> list[int]:
    return [x.stride(axis) for x in tensors for axis in range(3)]


def _widths(x: Tensor) -> dict[str, int]:
    width = x.shape[3]
    return {"D": width, "WIDTH": max(16, triton.next_power_of_2(width))}


def _launch(kernel: Any, blocks: Blocks, x: Tensor, sequences: int, longest: int) -> Callable:
    """A call of `kernel` with a program for each block of each sequence, and each head."""
    own = triton.cdiv(longest, blocks.owned)
    grid = (own * sequences, x.shape[0] * x.shape[2])
    sizes = {"M": blocks.owned, "N": blocks.read, "blocks": own, "heads": x.shape[2]}
    # Fused multiply-add asked for by name: Triton 3.10 turns its default round.
    options = {"num_warps": blocks.warps, "num_stages": blocks.stages, "enable_fp_fusion": True}

    def launch(*arguments: Any, **named: Any) -> None:
        if grid[0] and grid[1]:
            with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
                kernel[grid](*arguments, **named, **sizes, **_widths(x), **options)

    return launch


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_queries: Tensor,
    cu_seqlens: Tensor,
    max_queries: int,
    max_seqlen: int,
    blocks: Blocks | None = None,
) -> tuple[Tensor, Tensor]:
    """Mixed values (n, T, H, d); largest logits, in base 2, and sums of powers (2, n * H, T).

    Args:
        q: queries (n, T, H, d), float32, float16 or bfloat16, d up to 128.
        k: keys.
        v: values.
        cu_queries: (B + 1,) int32.
        cu_seqlens: (B + 1,) int32.
        max_queries: upper bound of the queries of a sequence.
        max_seqlen: upper bound of its keys.
        blocks: how to cut; chosen from the sizes when None.
    """
    q, k, v = (_contiguous_rows(x) for x in (q, k, v))
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    rows = (2, q.shape[0] * q.shape[2], q.shape[1])
    softmax = torch.empty(rows, dtype=torch.float32, device=q.device)
    offsets = (cu_queries.to(q.device), cu_seqlens.to(q.device))
    blocks = blocks or forward_blocks(q.dtype, q.shape[3], max_queries, max_seqlen)
    sequences = len(cu_queries) - 1
    cut = (1, q.shape[1]) if blocks.several and sequences else (sequences, max_queries)
    launch = _launch(_forward_kernel, blocks, q, *cut)
    launch(
        q, k, v, out, softmax, *offsets, *_strides(q, k, v, out),
        total_q=q.shape[1], total_k=k.shape[1], scale=LOG2E * q.shape[3] ** -0.5,
        sequences=sequences, steps=sequences.bit_length(), SEVERAL=blocks.several,
    )  # fmt: skip
    return out, softmax


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
    """Gradients of q, k and v from that of the mixed values; arguments as `forward` has them."""
    grad, q, k, v = (_contiguous_rows(x) for x in (grad, q, k, v))
    mean = torch.empty_like(softmax[0])
    sequences = len(cu_queries) - 1
    whole = _launch(_mean_kernel, Blocks(64, 64), q, 1, q.shape[1])
    whole(grad, out, mean, *_strides(grad, out), total_q=q.shape[1])

    offsets = (cu_queries.to(q.device), cu_seqlens.to(q.device))
    to_q, to_k, to_v = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    natural = q.shape[3] ** -0.5
    shared = {"total_q": q.shape[1], "total_k": k.shape[1]}
    shared |= {"scale": LOG2E * natural, "natural": natural}
    blocks = choose_blocks(q.dtype, q.shape[3], max_queries, max_seqlen)
    launch = _launch(_query_gradient_kernel, blocks, q, sequences, max_queries)
    launch(grad, q, k, v, softmax, mean, to_q, *offsets, *_strides(grad, q, k, v, to_q), **shared)
    blocks = choose_blocks(q.dtype, q.shape[3], max_seqlen, max_queries, keys=True)
    launch = _launch(_key_gradient_kernel, blocks, q, sequences, max_seqlen)
    to_kv = (to_k, to_v)
    launch(grad, q, k, v, softmax, mean, *to_kv, *offsets, *_strides(grad, q, k, v, to_k), **shared)
    return to_q, to_k, to_v
