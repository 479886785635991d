"""A linear map that uses oneDNN for float32 products on a CPU, where it is faster than MKL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from clipvg.ops._dispatch import requested

_LEAST = 1 << 22  # multiplications; below it, choosing a library costs more than it saves

_asked: ContextVar[bool] = ContextVar("clipvg_fast_cpu", default=False)


@contextmanager
def fast_cpu() -> Iterator[None]:
    """Use the CPU implementations that were measured to be the fastest in training.

    Float32 products run on oneDNN, the image tower block by block, and the fusion encoder over
    packed sequences. Results agree up to rounding.
    """
    token = _asked.set(True)
    try:
        yield
    finally:
        _asked.reset(token)


def is_fast(x: Tensor) -> bool:
    """Whether `fast_cpu` applies to a tensor: on a CPU, outside of traced graphs."""
    tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()
    asked = _asked.get() and requested() != "reference"
    return asked and x.device.type == "cpu" and not tracing


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `torch.nn.functional.linear`, forward and backward.

    PyTorch multiplies float32 matrices on a CPU with MKL, which uses half of what AVX-512 offers on
    AMD's cores; oneDNN, which PyTorch also brings, was measured at twice its speed there. The sums
    are float32 in another order. Outside of `fast_cpu`, on other devices, for other dtypes and for
    small products this is PyTorch's own function. With oneDNN it is once differentiable.
    """
    if not takes_onednn(x, weight):
        return F.linear(x, weight, bias)
    return _OneDnnLinear.apply(x, weight, bias)


def takes_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether `linear` multiplies these with oneDNN, whose output is always fresh memory."""
    return bool(
        is_fast(x)
        and x.dtype == weight.dtype == torch.float32
        and x.numel() * len(weight) >= _LEAST
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        flat = _product(x.reshape(-1, x.shape[-1]), weight, bias)
        return flat.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable  # oneDNN's product has no gradient of its own
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[-1]).contiguous()
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _product(flat, weight.t()).view(*grad.shape[:-1], -1)
        if ctx.needs_input_grad[1]:
            of_weight = _product(flat.t(), x.reshape(-1, x.shape[-1]).t())
        if ctx.needs_input_grad[2]:
            of_bias = flat.sum(0)
        return of_x, of_weight, of_bias


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the product of x and the transposed weight, plus bias."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
