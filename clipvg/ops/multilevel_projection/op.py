"""The operator `torch.ops.clipvg.multilevel_projection`: schema, fake kernel, gradient, reference.

Two operators share one body: `multilevel_projection` returns its rows and has a gradient,
`multilevel_projection_out` writes them into a packed sequence. Both read the tokens by index: a row
of the result is one token, so a kernel stores each row once and computes none that is left out. The
gradient is plain PyTorch: it is one matrix product per level, which is what BLAS is best at, and
needs no concatenation either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

import torch
from torch import Tensor

from clipvg.errors import InputError
from clipvg.ops._dispatch import choose, load_operators, why_no_triton

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

Result = TypeVar("Result")


class Projection(NamedTuple):
    """Arguments of the operators, in the order of their schemas; see the public function."""

    levels: Sequence[Tensor]
    weight: Tensor
    bias: Tensor
    position: Tensor | None
    kept: Tensor | None  # `index` of the public function
    out: Tensor | None = None


def count_tokens(given: Projection) -> int:
    """Return how many tokens the levels have; `numel` would fix the sizes of a traced graph."""
    return math.prod(given.levels[0].shape[:-1])


def count_rows(given: Projection) -> int:
    """Return how many tokens are projected."""
    return count_tokens(given) if given.kept is None else given.kept.shape[0]


def _refuse(name: str, tensor: Tensor, expected: str) -> NoReturn:
    shape = tuple(tensor.shape)
    raise InputError(f"multilevel_projection: {name} has shape {shape}; expected {expected}")


def _check_shapes(given: Projection) -> None:
    levels, weight, bias, position, index, out = given
    if not levels:
        raise InputError("multilevel_projection: there are no levels; expected at least one")
    first = tuple(levels[0].shape)
    if len(first) < 2:
        _refuse("levels[0]", levels[0], "(..., V, F)")
    for i, level in enumerate(levels):
        if tuple(level.shape) != first:
            _refuse(f"levels[{i}]", level, f"{first}, that of levels[0]")
    columns = len(levels) * first[-1]
    if weight.dim() != 2 or weight.shape[1] != columns:
        of_levels = f"for {len(levels)} levels of {first[-1]} channels"
        _refuse("weight", weight, f"(D, {columns}) {of_levels}")
    if index is not None and index.dim() != 1:
        _refuse("index", index, "(T,)")
    channels = weight.shape[0]
    for name, tensor, shape in (
        ("bias", bias, (channels,)),
        ("position", position, (first[-2], channels)),
        ("out", out, (count_rows(given), channels)),
    ):
        if tensor is not None and tuple(tensor.shape) != shape:
            _refuse(name, tensor, f"{shape}")


def _check_index(index: Sequence[int], tokens: int) -> None:
    """Reject token numbers that are out of range."""
    for row, token in enumerate(index):
        if not 0 <= token < tokens:
            raise InputError(
                f"multilevel_projection: index[{row}] is {token}; expected 0 to {tokens - 1}"
            )


def check_tensors(given: Projection) -> None:
    """Reject arguments of the wrong shape, dtype or device."""
    _check_shapes(given)
    levels, weight, bias, position, index, out = given
    others = {"weight": weight, "bias": bias, "position": position, "out": out}
    named = {f"levels[{i}]": level for i, level in enumerate(levels)} | others
    dtype, device = levels[0].dtype, levels[0].device
    if dtype not in DTYPES:
        raise ValueError(f"multilevel_projection: levels are {dtype}; expected a floating dtype")
    for name, tensor in named.items():
        if tensor is not None and (tensor.dtype != dtype or tensor.device != device):
            raise ValueError(
                f"multilevel_projection: {name} is {tensor.dtype} on {tensor.device}; "
                f"expected {dtype} on {device}, as levels[0]"
            )
    if index is not None and (index.dtype != torch.int64 or index.device != device):
        raise ValueError(
            f"multilevel_projection: index is {index.dtype} on {index.device}; "
            f"expected int64 on {device}"
        )


def _flat(levels: Sequence[Tensor]) -> list[Tensor]:
    """Return the levels as (N, F)."""
    return [level.flatten(0, -2) for level in levels]


def _blocks(weight: Tensor, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the columns (D, F) of the weight for each level."""
    return weight.unflatten(1, (len(levels), levels[0].shape[-1])).unbind(1)


def reference(given: Projection) -> Tensor:
    """Define the operator, and run it on a CPU: (T, D), the sum of one product per level."""
    levels, weight, bias, position, index, out = given
    if position is None:
        start = bias.expand(count_rows(given), -1)
    else:
        token = torch.arange(count_tokens(given), device=bias.device) if index is None else index
        start = position.index_select(0, token % max(1, position.shape[0])) + bias  # (T, D)
    out = start.clone() if out is None else out.copy_(start)
    for level, block in zip(_flat(levels), _blocks(weight, levels), strict=True):
        out.addmm_(level if index is None else level.index_select(0, index), block.T)
    return out


def _project(given: Projection) -> Tensor:
    check_tensors(given)
    return reference(given)


def _project_out(given: Projection) -> None:
    _project(given)


def _fake(given: Projection) -> Tensor:
    check_tensors(given)
    return given.weight.new_empty(count_rows(given), len(given.weight))


def _triton(given: Projection) -> Tensor:
    out = _fake(given)
    _triton_out(given._replace(out=out))
    return out


def _triton_out(given: Projection) -> None:
    check_tensors(given)
    levels, weight, bias, position, index, out = given
    assert out is not None
    if out.dtype == torch.float64:
        raise InputError(
            "multilevel_projection: the Triton kernel has no float64; use backend 'reference'"
        )
    if why_no_triton():  # an exported program calls the operator whatever the machine has
        reference(given)
        return
    from clipvg.kernels.multilevel_projection import project_into

    with torch.cuda.device(out.device):
        project_into(out, _flat(levels), weight, bias, position, index)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    levels, weight, _, position, index = inputs
    ctx.save_for_backward(*levels, weight, position, index)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    *levels, weight, position, index = ctx.saved_tensors
    shape = levels[0].shape
    for_levels, for_weight, for_bias, for_position, _ = ctx.needs_input_grad
    level_grads: list[Tensor | None] = [None] * len(levels)
    weight_grad = bias_grad = position_grad = None
    if for_weight:
        read = (x if index is None else x.index_select(0, index) for x in _flat(levels))
        weight_grad = torch.cat([grad.T @ rows for rows in read], dim=1)
    if for_bias:
        bias_grad = grad.sum(0)
    if for_position or any(for_levels):
        # One row per token, so that position's sum over images has a fixed order. When it packs,
        # index names a token at most once, and nothing here depends on the order of threads.
        full = grad
        if index is not None:
            full = grad.new_zeros(math.prod(shape[:-1]), grad.shape[1]).index_add(0, index, grad)
        if for_position:
            position_grad = full.view(math.prod(shape[:-2]), *position.shape).sum(0)
        for i, block in enumerate(_blocks(weight, levels)):
            if for_levels[i]:
                level_grads[i] = (full @ block).view(shape)
    return level_grads, weight_grad, bias_grad, position_grad, None


def _unpacked(run: Callable[[Projection], Result]) -> Callable[..., Result]:
    """Make `run` take its arguments one by one, as an operator gets them."""
    return lambda *args: run(Projection(*args))


_ARGUMENTS = "Tensor[] levels, Tensor weight, Tensor bias, Tensor? position, Tensor? index"
operator = torch.library.custom_op(
    "clipvg::multilevel_projection",
    _unpacked(_project),
    mutates_args=(),
    schema=f"({_ARGUMENTS}) -> Tensor",
)
operator.register_fake(_unpacked(_fake))
operator.register_autograd(_gradient, setup_context=_save)
operator.register_kernel("cuda", _unpacked(_triton))

out_operator = torch.library.custom_op(
    "clipvg::multilevel_projection_out",
    _unpacked(_project_out),
    mutates_args={"out"},
    schema=f"({_ARGUMENTS}, Tensor(a5!) out) -> ()",
)
out_operator.register_fake(_unpacked(check_tensors))
out_operator.register_kernel("cuda", _unpacked(_triton_out))


@torch.compiler.assume_constant_result
def _runs_reference(device: str, dtype: str) -> bool:
    load_operators()
    return choose("multilevel_projection", device, dtype) == "reference"


def project_tensors(given: Projection) -> Tensor:
    """Implement `clipvg.ops.multilevel_projection`."""
    check_tensors(given)
    levels, weight, bias, position, index, out = given
    if index is not None and index.is_cpu and not torch.compiler.is_compiling():
        _check_index(index.tolist(), count_tokens(given))
    if out is not None and torch.is_grad_enabled():
        if any(x is not None and x.requires_grad for x in (*levels, weight, bias, position)):
            raise InputError(
                "multilevel_projection: out= has no gradient, and an argument requires one; "
                "leave out= away or call under torch.no_grad()"
            )
    dtype = str(levels[0].dtype).removeprefix("torch.")
    if _runs_reference(levels[0].device.type, dtype):
        rows = reference(given)
    elif out is None:
        rows = torch.ops.clipvg.multilevel_projection(levels, weight, bias, position, index)
    else:
        torch.ops.clipvg.multilevel_projection_out(*given)
        rows = out
    is_flat = index is not None or out is not None
    return rows if is_flat else rows.view(*levels[0].shape[:-1], len(weight))
