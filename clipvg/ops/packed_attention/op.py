"""The operator `torch.ops.clipvg.packed_attention`: schema, fake kernels, gradient, dispatch.

Tensors are (n, T, H, d) for n measurers of T tokens. Each operator returns the mixed values and, if
its kernel keeps them for the gradient (as Triton's does), the largest logit of each query and the
sum of exponentials relative to it, (2, n * H, T) float32; else (0,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import CustomOpDef, custom_op

from clipvg.errors import InputError
from clipvg.ops._dispatch import operator_name, requested, why_no_triton
from clipvg.ops.packed_attention.dense import (
    Grads,
    Packed,
    check_offsets,
    check_tensors,
    native,
    native_backward,
    native_into,
    reference,
    reference_backward,
    zeros_like_parts,
)

TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
TRITON_MAX_WIDTH = 128

_OFFSETS = "Tensor cu_queries, Tensor cu_seqlens, SymInt max_queries, SymInt max_seqlen"
_SCHEMA = f"(Tensor q, Tensor k, Tensor v, {_OFFSETS}) -> (Tensor, Tensor)"
_BACKWARD_SCHEMA = (
    f"(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor softmax, {_OFFSETS}) "
    "-> (Tensor, Tensor, Tensor)"
)

Forward = Callable[[Packed], tuple[Tensor, Tensor]]
Backward = Callable[[Tensor, Packed, Tensor, Tensor], Grads]  # of grad, given, out, softmax


def _runs_triton(q: Tensor) -> bool:
    """Whether the Triton kernels support q; an exported program calls the operator with any q."""
    fits = q.dtype in TRITON_DTYPES and q.shape[3] <= TRITON_MAX_WIDTH
    return bool(fits and not why_no_triton())


def _triton(given: Packed) -> tuple[Tensor, Tensor]:
    if not _runs_triton(given.q):
        return native(given)
    from clipvg.kernels.packed_attention import forward

    return forward(*given)


def _fake(given: Packed) -> tuple[Tensor, Tensor]:
    check_tensors(given)
    q = given.q
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    return out, q.new_empty(0, dtype=torch.float32)


def _fake_triton(given: Packed) -> tuple[Tensor, Tensor]:
    out, none = _fake(given)
    q = given.q
    kept = q.new_empty((2, q.shape[0] * q.shape[2], q.shape[1]), dtype=torch.float32)
    return out, kept if q.device.type == "cuda" and _runs_triton(q) else none


def _triton_backward(grad: Tensor, given: Packed, out: Tensor, softmax: Tensor) -> Grads:
    if not _runs_triton(given.q):
        return native_backward(grad, given, out, softmax)
    from clipvg.kernels.packed_attention import backward

    return backward(grad, *given[:3], out, softmax, *given[3:])


def _flat(run: Forward) -> Callable[..., tuple[Tensor, Tensor]]:
    """Make `run` take its arguments one by one, as an operator gets them."""
    return lambda *args: run(Packed(*args))


def _flat_backward(run: Backward) -> Callable[..., Grads]:
    """Make `run` take the arguments of a gradient one by one, as its operator gets them."""
    return lambda grad, q, k, v, out, softmax, *offsets: run(
        grad, Packed(q, k, v, *offsets), out, softmax
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.max_queries, ctx.max_seqlen = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, *output)


def _define(
    name: str, forward: Forward, backward: Backward, fake: Forward
) -> tuple[CustomOpDef, CustomOpDef]:
    """Define an operator with this schema, and the operator that computes its gradient."""
    operator = custom_op(f"clipvg::{name}", _flat(forward), mutates_args=(), schema=_SCHEMA)
    operator.register_fake(_flat(fake))
    gradient = custom_op(
        f"clipvg::{name}_backward",
        _flat_backward(backward),
        mutates_args=(),
        schema=_BACKWARD_SCHEMA,
    )
    gradient.register_fake(_flat_backward(lambda grad, given, *_: zeros_like_parts(given)))

    def run_backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, cu_queries, cu_seqlens, out, softmax = ctx.saved_tensors
        saved = (q, k, v, out, softmax, cu_queries, cu_seqlens)
        grads = gradient(grad, *saved, ctx.max_queries, ctx.max_seqlen)
        return (*grads, None, None, None, None)

    operator.register_autograd(run_backward, setup_context=_save)
    return operator, gradient


packed_attention_op, packed_attention_backward_op = _define(
    "packed_attention", reference, reference_backward, _fake_triton
)
packed_attention_op.register_kernel("cpu", _flat(native))
packed_attention_backward_op.register_kernel("cpu", _flat_backward(native_backward))
packed_attention_op.register_kernel("cuda", _flat(_triton))
packed_attention_backward_op.register_kernel("cuda", _flat_backward(_triton_backward))
# The same implementations under names for which no kernel of a device is ever registered.
_define("packed_attention_reference", reference, reference_backward, _fake)
_define("packed_attention_native", native, native_backward, _fake)


@torch.compiler.assume_constant_result
def _operator_name(device: str, dtype: torch.dtype, size: int | None, is_wide: bool) -> str:
    name = operator_name("packed_attention", device, str(dtype).removeprefix("torch."), size)
    if device != "cuda" or name != "packed_attention":
        return name
    if is_wide or dtype not in TRITON_DTYPES:
        if requested() == "auto":
            return "packed_attention_native"
        raise InputError(
            "packed_attention: the Triton kernel takes float32, float16 and bfloat16 and heads of "
            f"up to {TRITON_MAX_WIDTH}; use backend 'native' or 'reference', or 'auto'"
        )
    return name


def attend(given: Packed, out: Tensor | None) -> Tensor:
    """Implement `clipvg.ops.packed_attention`."""
    check_tensors(given)
    q, k, _, cu_queries, cu_seqlens, max_queries, max_seqlen = given
    size = None
    if not torch.compiler.is_compiling():
        size = max_seqlen
        for name, offsets, tokens, longest in (
            ("cu_seqlens", cu_seqlens, k.shape[1], max_seqlen),
            ("cu_queries", cu_queries, q.shape[1], max_queries),
        ):
            if offsets.device.type == "cpu":
                check_offsets(name, offsets.tolist(), tokens, longest)
    is_wide = True if q.shape[3] > TRITON_MAX_WIDTH else False  # a bool even where d is a symbol
    name = _operator_name(q.device.type, q.dtype, size, is_wide)
    if out is not None:
        _check_out(out, given)
        is_native = name == "packed_attention_native" or (q.is_cpu and name == "packed_attention")
        if is_native and not torch.compiler.is_compiling():
            native_into(out, given)
            return out
    found = getattr(torch.ops.clipvg, name)(*given)[0]
    return found if out is None else out.copy_(found)


def _check_out(out: Tensor, given: Packed) -> None:
    q = given.q
    if (out.shape, out.dtype, out.device) != (q.shape, q.dtype, q.device):
        raise ValueError(
            f"packed_attention: out is {tuple(out.shape)} {out.dtype} on {out.device}; "
            f"expected {tuple(q.shape)} {q.dtype} on {q.device}"
        )
    if torch.is_grad_enabled() and any(x.requires_grad for x in given[:3]):
        raise ValueError("packed_attention: out has no gradient; leave it out, or use no_grad")
