"""Shapes and offsets that no implementation of `packed_attention` accepts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from clipvg.errors import InputError


def check_shapes(
    q: Sequence[int],
    k: Sequence[int],
    v: Sequence[int],
    cu_queries: Sequence[int],
    cu_seqlens: Sequence[int],
) -> None:
    """Reject shapes that no implementation accepts; those of q, k and v have four axes."""
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
