"""Simulate a device that is neither CPU nor CUDA and has no float64, such as Apple's "mps".

Its tensors claim to be on the device "meta" but have values, which a CPU computes. Inside
`other_device()` a float64 tensor on it is refused, as is an operation that mixes its tensors with
others, just as on a real device. Code that asks for `device.type` sees no CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from clipvg.ops import load_operators

DEVICE = "meta"
REFUSED = (torch.float64, torch.complex128)
ATEN = torch.ops.aten
CROSSES = {ATEN._to_copy.default, ATEN.copy_.default}  # operations from one device to another
TAKES_INDEX = {ATEN.index.Tensor, ATEN.index_put_.default, ATEN.index_put.default}


class There(torch.Tensor):
    """A tensor on the device; `inner` holds its values."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> There:
        if inner.dtype in REFUSED:
            raise TypeError(f"the device has no {inner.dtype}")
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=DEVICE,
        )  # fmt: skip

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    def tolist(self) -> Any:
        return self.inner.tolist()  # torch refuses this for a subclass

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"There({self.inner})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return run(func, args, kwargs or {})


class Mode(TorchDispatchMode):
    """Creates new tensors on the device; existing ones dispatch by themselves."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return run(func, args, kwargs or {})


class Literals(TorchFunctionMode):
    """Creates tensors from numbers, which torch fills below all dispatch."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            return func(*args, **kwargs | {"device": "cpu"}).to(kwargs["device"])
        return func(*args, **kwargs)


def definitions() -> dict[Any, Callable[..., Any]]:
    """Map clipvg's operators to the plain PyTorch that runs where no kernel is registered."""
    from clipvg.ops.box_reliability.op import reference
    from clipvg.ops.packed_attention.dense import Packed, native

    load_operators()
    return {
        torch.ops.clipvg.box_reliability_reference.default: reference,
        torch.ops.clipvg.packed_attention_native.default: lambda *args: native(Packed(*args)),
    }


def run(func: Any, args: tuple, kwargs: dict) -> Any:
    given: dict[int, There] = {}
    hosts: list[torch.Tensor] = []

    def unwrap(x: Any) -> Any:
        if isinstance(x, There):
            given[id(x.inner)] = x
            return x.inner
        if isinstance(x, torch.Tensor):
            hosts.append(x)
        return torch.device("cpu") if isinstance(x, torch.device) and x.type == DEVICE else x

    own = definitions().get(func) if func.namespace == "clipvg" else None
    with Mode():
        if own is not None and any(isinstance(x, There) for x in args):
            return own(*args, **kwargs)
        # Without gradients torch leaves it to us to decompose composite operations.
        parts = func.decompose(*args, **kwargs)
    if parts is not NotImplemented:
        return parts
    goes_there = torch.device(kwargs.get("device") or "cpu").type == DEVICE
    inner_args, inner_kwargs = tree_map(unwrap, (args, kwargs))
    if not given and not goes_there:
        return func(*args, **kwargs)
    if given and func not in CROSSES | TAKES_INDEX and any(x.dim() for x in hosts):
        raise RuntimeError(f"{func}: tensors of the device and of the CPU meet")
    found = func(*inner_args, **inner_kwargs)
    stays = goes_there or not (func is ATEN._to_copy.default and kwargs.get("device"))
    if func is ATEN.copy_.default and not isinstance(args[0], There):
        stays = False

    def wrap(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or not stays:
            return x
        return given[id(x)] if id(x) in given else There(x)

    with torch.inference_mode(False):  # otherwise it could not make views of parameters
        return tree_map(wrap, found)


@contextmanager
def other_device() -> Iterator[torch.device]:
    """Yield the device; AdamW takes it for one with a fused step, as Apple's has."""
    name = "torch.optim.optimizer._get_fused_kernels_supported_devices"
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # otherwise `inner` stays
    try:
        with Literals(), Mode(), patch(name, lambda: [DEVICE, "cpu"]):
            yield torch.device(DEVICE)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
