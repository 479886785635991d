"""packed_attention: values and gradients against float64, on every CPU implementation."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipvg.errors import InputError
from clipvg.ops import backend, packed_attention

OPERATOR = "packed_attention"
HALF = {torch.float16: 1e-2, torch.bfloat16: 1e-2}  # allowed relative error
LENGTHS = [0, 3, 3, 1, 0, 41, 7, 7, 129]
LONG = [200, 200, 200, 200, 730]  # a run and a sequence that exceed the cache


def offsets(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def fused(tokens: int, dtype: torch.dtype = torch.float64, n: int = 2) -> tuple[torch.Tensor, ...]:
    """q, k and v (n, T, H, d), as views of one product."""
    return normal(n, tokens, 3, 2, 16, dtype=dtype).unbind(2)


def truth(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, queries: list[int], keys: list[int]
) -> torch.Tensor:
    """Compute the definition in float64: all tokens at once, with a mask."""
    q, k, v = (x.double().transpose(-2, -3) for x in (q, k, v))
    sequence_q, sequence_k = (
        torch.arange(len(each)).repeat_interleave(torch.tensor(each, dtype=torch.long))
        for each in (queries, keys)
    )
    scores = q @ k.mT / q.shape[-1] ** 0.5
    scores = scores.masked_fill(sequence_q[:, None] != sequence_k, -torch.inf)
    weights = scores.softmax(-1).nan_to_num()  # no keys: 0 / 0
    return (weights @ v).transpose(-2, -3)


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual.double() - expected).norm() / expected.norm())


def outcome(
    parts: tuple[torch.Tensor, ...], lengths: list[int], grad: torch.Tensor
) -> list[torch.Tensor]:
    """Return the mixed values and the gradients."""
    leaves = [part.detach().requires_grad_() for part in parts]
    out = packed_attention(*leaves, offsets(lengths), max(lengths))
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


@functools.cache
def known(dtype: torch.dtype, is_long: bool) -> tuple[Any, ...]:
    """Return inputs and an output gradient, with the results of the reference and of float64."""
    lengths = LONG if is_long else LENGTHS
    parts, grad = fused(sum(lengths), dtype), normal(2, sum(lengths), 2, 16, dtype=dtype, seed=1)
    leaves = [part.double().requires_grad_() for part in parts]
    expected = truth(*leaves, lengths, lengths)
    expected = [expected.detach(), *torch.autograd.grad(expected, leaves, grad.double())]
    with backend("reference"):
        return parts, lengths, grad, outcome(parts, lengths, grad), expected


@pytest.mark.parametrize("is_long", [False, True], ids=["short", "long"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF])
def test_errors_against_float64(each_backend: str, dtype: torch.dtype, is_long: bool) -> None:
    *inputs, reference, expected = known(dtype, is_long)
    for ours, theirs, true in zip(outcome(*inputs), reference, expected, strict=True):
        assert ours.dtype == dtype
        allowed = HALF.get(dtype, 2 * error(theirs, true) + 1e-15)
        assert error(ours, true) <= allowed
        assert error(theirs, true) <= HALF.get(dtype, 1e-6)


@settings(max_examples=40, deadline=None)
@example(sizes=[(1, 1), (0, 1), (1, 1)], heads=1, width=8)  # in between, keys that no query sees
@given(
    sizes=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9)), max_size=6),
    heads=st.integers(1, 3),
    width=st.sampled_from([1, 8, 24]),
)
def test_any_lengths(sizes: list[tuple[int, int]], heads: int, width: int) -> None:
    queries, keys = [size[0] for size in sizes], [size[1] for size in sizes]
    q = normal(1, sum(queries), heads, width)
    k, v = normal(1, sum(keys), 2, heads, width, seed=1).unbind(2)
    expected = truth(q, k, v, queries, keys)
    options = {"cu_queries": offsets(queries), "max_queries": max(queries, default=0)}
    for name in ("reference", "auto"):
        leaves = [part.detach().requires_grad_() for part in (q, k, v)]
        with backend(name):
            out = packed_attention(*leaves, offsets(keys), max(keys, default=0), **options)
            grads = torch.autograd.grad(out.square().sum(), leaves)
        torch.testing.assert_close(out, expected)
        twins = [part.detach().requires_grad_() for part in (q, k, v)]
        total = truth(*twins, queries, keys).square().sum()
        torch.testing.assert_close(grads, torch.autograd.grad(total, twins))


def test_one_measurer_has_no_axis_for_it(each_backend: str) -> None:
    q, k, v = fused(11, n=1)
    expected = packed_attention(q, k, v, offsets([5, 6]), 6)
    actual = packed_attention(q[0], k[0], v[0], offsets([5, 6]), 6)
    assert torch.equal(actual, expected[0])


def test_one_query_a_sequence_is_its_row_of_all(each_backend: str) -> None:
    lengths = [4, 4, 1, 9]
    q, k, v = fused(18)
    edges = offsets(lengths)
    one = {"cu_queries": torch.arange(5, dtype=torch.int32), "max_queries": 1}
    firsts = packed_attention(q[:, edges[:-1].long()], k, v, edges, 9, **one)
    torch.testing.assert_close(firsts, packed_attention(q, k, v, edges, 9)[:, edges[:-1].long()])


def test_extreme_logits_choose_the_largest(each_backend: str) -> None:
    q = torch.tensor([[1e4, 0.0], [-1e4, 0.0]])[:, None].repeat(2, 1, 1)
    k = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])[:, None].repeat(2, 1, 1) * 2**0.5
    v = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[:, None].repeat(2, 1, 1)
    grad = torch.ones(1, 4, 1, 2)
    out, *grads = outcome((q[None], k[None], v[None]), [2, 2], grad)
    torch.testing.assert_close(out[0], v)
    assert all(each.isfinite().all() for each in grads)
    torch.testing.assert_close(grads[2], grad)


def test_nothing_gives_nothing(each_backend: str) -> None:
    for lengths in ([], [0], [0, 0, 0]):
        parts = [part.requires_grad_() for part in fused(0)]
        out = packed_attention(*parts, offsets(lengths), 0)
        assert out.shape == (2, 0, 2, 16)
        assert all(not grad.numel() for grad in torch.autograd.grad(out.sum(), parts))


def test_no_heads_give_nothing(each_backend: str) -> None:
    parts = [part[:, :, :0].requires_grad_() for part in fused(9)]
    out = packed_attention(*parts, offsets([4, 5]), 5)
    assert out.shape == (2, 9, 0, 16)
    assert all(not grad.numel() for grad in torch.autograd.grad(out.sum(), parts))


def test_queries_without_keys_give_zero(each_backend: str) -> None:
    q, k = normal(3, 2, 8).requires_grad_(), normal(4, 2, 8, seed=1).requires_grad_()
    queries = {"cu_queries": offsets([2, 1]), "max_queries": 2}
    out = packed_attention(q, k, k, offsets([0, 4]), 4, **queries)
    assert not out[:2].any()
    assert out[2].all()
    to_q, to_k = torch.autograd.grad(out.sum(), (q, k))
    assert not to_q[:2].any()
    assert to_k.all()


def test_strides_do_not_matter(each_backend: str) -> None:
    q, k, v = fused(10)
    moved = [x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in (q, k, v)]
    expected = packed_attention(q, k, v, offsets([4, 6]), 6)
    assert not moved[0].is_contiguous()
    torch.testing.assert_close(packed_attention(*moved, offsets([4, 6]), 6), expected)
    wide = v[..., :1].expand_as(v)  # stride 0
    actual = packed_attention(q, k, wide, offsets([4, 6]), 6)
    torch.testing.assert_close(
        actual, packed_attention(q, k, wide.clone(), offsets([4, 6]), 6)
    )  # likewise the gradient of a sum, whose stride is 0
    outcome((q, k, wide), [4, 6], torch.ones(1).double().expand(2, 10, 2, 16))


def test_out_is_written_and_returned(each_backend: str) -> None:
    parts, out = fused(9), torch.full((2, 9, 2, 16), torch.nan, dtype=torch.float64)
    returned = packed_attention(*parts, offsets([4, 5]), 5, out=out)
    assert returned is out
    assert torch.equal(out, packed_attention(*parts, offsets([4, 5]), 5))
    one = packed_attention(*(part[0] for part in parts), offsets([4, 5]), 5, out=out[1])
    assert torch.equal(one, out[1])
    torch.testing.assert_close(out[1], out[0])
    with pytest.raises(ValueError, match=r"out is \(2, 3"):
        packed_attention(*parts, offsets([4, 5]), 5, out=out[:, :3])
    parts[0].requires_grad_()
    with pytest.raises(ValueError, match="out has no gradient"):
        packed_attention(*parts, offsets([4, 5]), 5, out=out)


def test_gradients_are_those_of_the_definition(each_backend: str) -> None:
    parts = [part.detach().requires_grad_() for part in normal(1, 9, 3, 1, 3).unbind(2)]
    assert torch.autograd.gradcheck(
        lambda *parts: packed_attention(*parts, offsets([4, 4, 0, 1]), 4), parts
    )


def test_a_long_sequence_is_differentiated_by_blocks_of_queries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from clipvg.ops.packed_attention import dense

    parts, grad = fused(40), normal(2, 40, 2, 16, seed=1)
    whole = outcome(parts, [20, 20], grad)
    monkeypatch.setattr(dense, "_MAX_WEIGHTS", 2 * 2 * 20 * 3)
    torch.testing.assert_close(outcome(parts, [20, 20], grad), whole)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"q": normal(9, 16)}, r"q has shape \(9, 16\)"),
        ({"v": normal(9, 2, 8)}, r"v has shape \(1, 9, 2, 8\); expected that of k \(1, 9, 2, 16\)"),
        ({"q": normal(9, 1, 16)}, "expected the same n, heads and head width"),
        ({name: normal(9, 2, 0) for name in "qkv"}, "expected a head width d of at least 1"),
        ({"q": normal(9, 2, 16).float()}, "expected one dtype and device"),
        ({name: normal(9, 2, 16).int() for name in "qkv"}, "expected a floating dtype"),
        ({"cu_seqlens": offsets([4, 5]).long()}, "cu_seqlens is torch.int64 on cpu; expected int"),
        ({"cu_seqlens": offsets([4, 5])[:0]}, r"cu_seqlens has shape \(0,\)"),
        ({"cu_seqlens": offsets([4, 4])}, "cu_seqlens runs from 0 to 8; expected 0 to 9"),
        ({"cu_seqlens": offsets([10, -1])}, "sequence 0 of cu_seqlens has 10 tokens"),
        ({"max_seqlen": 4}, "sequence 1 of cu_seqlens has 5 tokens; expected 0 to 4"),
        ({"cu_queries": offsets([9])}, "cu_queries is given without max_queries"),
        ({"cu_queries": offsets([9]), "max_queries": 9}, "cu_queries has 2 entries and cu_seqlens"),
    ],
)
def test_errors_name_what_is_wrong(change: dict, match: str) -> None:
    q, k, v = (part[0] for part in fused(9, n=1))
    arguments = {"q": q, "k": k, "v": v, "cu_seqlens": offsets([4, 5]), "max_seqlen": 5}
    with pytest.raises((InputError, ValueError), match=match):
        packed_attention(**(arguments | change))


def test_a_backend_that_cannot_run_says_so() -> None:
    with backend("triton"), pytest.raises(InputError, match="no Triton kernel for cpu; use 'ref"):
        packed_attention(*fused(9), offsets([4, 5]), 5)
