"""Attention within each of many sequences that lie one after the other, without padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from clipvg.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def check_shapes(
    q: Sequence[int],
    k: Sequence[int],
    v: Sequence[int],
    cu_queries: Sequence[int],
    cu_seqlens: Sequence[int],
) -> None:
    """Rejects shapes that no implementation accepts; those of q, k and v have four axes.

    Raises:
        InputError: naming the argument, its shape and what was expected.
    """
    if len(q) != 4 or len(k) != 4:
        raise InputError(
            f"packed_attention: q has shape {tuple(q)} and k {tuple(k)}; "
            "expected (T, H, d), or (n, T, H, d) for n measurers"
        )
    if tuple(v) != tuple(k):
        raise InputError(f"packed_attention: v has shape {tuple(v)}; expected that of k {tuple(k)}")
    if q[0] != k[0] or q[2] != k[2] or q[3] != k[3]:
        raise InputError(
            f"packed_attention: q has shape {tuple(q)} and k {tuple(k)}; "
            "expected the same n, heads and head width"
        )
    if q[3] == 0:
        raise InputError(
            f"packed_attention: q has shape {tuple(q)}; expected a head width d of at least 1"
        )
    for name, shape in (("cu_seqlens", cu_seqlens), ("cu_queries", cu_queries)):
        if len(shape) != 1 or shape[0] < 1:
            raise InputError(
                f"packed_attention: {name} has shape {tuple(shape)}; expected (B + 1,), at least 1"
            )
    if cu_queries[0] != cu_seqlens[0]:
        raise InputError(
            f"packed_attention: cu_queries has {cu_queries[0]} entries and cu_seqlens "
            f"{cu_seqlens[0]}; expected as many"
        )


def check_offsets(name: str, offsets: Sequence[int], tokens: int, longest: int) -> None:
    """Rejects offsets that are not 0, ..., T in order, or sequences longer than `longest`.

    Raises:
        InputError: naming the argument and the first offset that is wrong.
    """
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


def packed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    *,
    cu_queries: Tensor | None = None,
    max_queries: int | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Attention within each packed sequence: softmax(q kᵀ / √d) v, per sequence and head.

    Every query of a sequence sees every key of it and no other. Without `cu_queries` queries and
    keys are the same tokens. With it each sequence has its own number of queries: one query a
    sequence is `cu_queries=arange(B + 1)`, `max_queries=1` and q of (B, H, d).

    Sums are float32 for float16, bfloat16 and float32, float64 for float64. Differentiable once in
    q, k and v. Strided views, such as the parts of one fused product, need no copy.

    Args:
        q: queries (T, H, d), or (n, T, H, d) for n measurers that share the sequences; float32,
            float64, float16 or bfloat16.
        k: keys, of the same n, H, d, dtype and device.
        v: values, of the shape of k.
        cu_seqlens: where each sequence of keys begins, and where the last one ends, (B + 1,)
            int32: 0, ..., T. On the host or on the device of q: PyTorch's kernels read it on the
            host, Triton's on the device, and either is copied where it has to be.
        max_seqlen: upper bound of the sequences' lengths.
        cu_queries: the same for the queries; `cu_seqlens` when None.
        max_queries: upper bound of the number of queries; required with `cu_queries`.
        out: memory for the result, of the shape and dtype of q; there is no gradient then.

    Returns:
        Tensor of the shape and dtype of q. A query of a sequence without keys gives 0. Sequences
        of equal lengths side by side are one dense product on a CPU.

    Raises:
        InputError: shapes are wrong; or offsets on the host (on a device they are not read, and
            wrong ones give wrong results).
        ValueError: dtypes or devices differ, or `out` cannot take the result.

    Example:
        >>> q = k = torch.zeros(5, 1, 16)
        >>> v = torch.arange(5.0)[:, None, None].expand(-1, 1, 16)
        >>> offsets = torch.tensor([0, 2, 5], dtype=torch.int32)
        >>> packed_attention(q, k, v, offsets, 3)[:, 0, 0].tolist()
        [0.5, 0.5, 3.0, 3.0, 3.0]
    """
    from clipvg.ops._packed_attention_op import attend

    if cu_queries is None:
        cu_queries, max_queries = cu_seqlens, max_seqlen
    elif max_queries is None:
        raise InputError("packed_attention: cu_queries is given without max_queries; give both")
    if q.dim() == 3 and k.dim() == 3 and v.dim() == 3:
        q, k, v = (tensor.unsqueeze(0) for tensor in (q, k, v))
        own = None if out is None else out.unsqueeze(0)
        return attend(q, k, v, cu_queries, cu_seqlens, max_queries, max_seqlen, own).squeeze(0)
    return attend(q, k, v, cu_queries, cu_seqlens, max_queries, max_seqlen, out)
