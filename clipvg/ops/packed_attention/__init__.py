"""Attention within each of many sequences that are packed end to end, without padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipvg.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


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
    """Attend within each packed sequence: softmax(q kᵀ / √d) v, per sequence and head.

    Every query attends to all keys of its sequence and to no others. Without `cu_queries`, queries
    and keys are the same tokens. With it each sequence has its own number of queries: one query per
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
            host, Triton's on the device, and it is copied where necessary.
        max_seqlen: upper bound of the sequences' lengths.
        cu_queries: the same for the queries; `cu_seqlens` when None.
        max_queries: upper bound of the number of queries; required with `cu_queries`.
        out: memory for the result, of the shape and dtype of q; there is no gradient then.

    Returns:
        Tensor of the shape and dtype of q. A query of a sequence without keys gives 0. Adjacent
        sequences of equal lengths are one dense product on a CPU.

    Raises:
        InputError: shapes are wrong; or offsets are, except on a device for Triton's kernels, which
            then stay within the tensors but give wrong results.
        ValueError: dtypes or devices differ, or `out` cannot take the result.

    Example:
        >>> q = k = torch.zeros(5, 1, 16)
        >>> v = torch.arange(5.0)[:, None, None].expand(-1, 1, 16)
        >>> offsets = torch.tensor([0, 2, 5], dtype=torch.int32)
        >>> packed_attention(q, k, v, offsets, 3)[:, 0, 0].tolist()
        [0.5, 0.5, 3.0, 3.0, 3.0]
    """
    from clipvg.ops.packed_attention.op import Packed, attend

    if cu_queries is None:
        cu_queries, max_queries = cu_seqlens, max_seqlen
    elif max_queries is None:
        raise InputError("packed_attention: cu_queries is given without max_queries; give both")
    is_single = q.dim() == k.dim() == v.dim() == 3
    if is_single:
        q, k, v = (tensor.unsqueeze(0) for tensor in (q, k, v))
        out = None if out is None else out.unsqueeze(0)
    found = attend(Packed(q, k, v, cu_queries, cu_seqlens, max_queries, max_seqlen), out)
    return found.squeeze(0) if is_single else found
