"""Choose which implementation of an operator runs, and say why."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from typing import TypedDict

from clipvg.errors import InputError, near_matches
from clipvg.ops import _native
from clipvg.ops._table import OPERATORS
from clipvg.runtime import gpu

BACKENDS = ("auto", "reference", "native", "triton")
TRITON_CAPABILITY = (8, 0)  # least compute capability of a GPU

_forced: ContextVar[str | None] = ContextVar("clipvg_backend", default=None)


def _known(name: str, where: str) -> str:
    if name not in BACKENDS:
        raise InputError(f"{where}: unknown backend {name!r}; {near_matches(name, BACKENDS)}")
    return name


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Run the operators called inside on one implementation.

    The environment variable CLIPVG_BACKEND does the same for a whole process; this wins over it.
    Under torch.compile the choice is the one in force when the graph is traced.

    Args:
        name: "auto" (what was measured to be the fastest for the device, dtype and size),
            "reference" (the definition in plain PyTorch or NumPy), "native" (C++ or CUDA; of an
            operator without either, a fast composition of PyTorch's own kernels) or "triton".

    Raises:
        InputError: the name is unknown; or, at the call of an operator, that implementation
            cannot run (with the reason).

    Example:
        >>> with backend("reference"):
        ...     iou, hist = box_reliability(pred, target)
    """
    token = _forced.set(_known(name, "backend"))
    try:
        yield
    finally:
        _forced.reset(token)


def requested() -> str:
    """Return the backend asked for: by `backend`, else by CLIPVG_BACKEND, else "auto"."""
    return _forced.get() or _known(os.environ.get("CLIPVG_BACKEND") or "auto", "CLIPVG_BACKEND")


def why_unavailable(operator: str, device: str, name: str) -> str | None:
    """Return why an implementation cannot run on a device type; None if it can."""
    if name == "triton":
        if devices := OPERATORS[operator].triton:
            no_kernel = f"{operator} has no Triton kernel for {device}"
            return why_no_triton() if device in devices else no_kernel
        return f"{operator} has no Triton kernel"
    return _native_reason(operator, device) if name == "native" else None


@functools.cache
def why_no_triton() -> str | None:
    """Return why no Triton kernel can run on the GPUs here; None if they can."""
    if find_spec("triton") is None:
        return "Triton is not installed (pip install triton, on Linux)"
    if find_spec("clipvg.kernels") is None:
        return "clipvg.kernels is not installed; reinstall clipvg"
    if not os.environ.get("CC") and not shutil.which("gcc") and not shutil.which("clang"):
        return "Triton needs a C compiler (install gcc, or set CC)"
    if reason := gpu.why_no_gpu():
        return reason
    known = gpu.facts()
    for each in known.gpus if known.hip is None else ():
        if each.capability < TRITON_CAPABILITY:
            found, needed = ("{}.{}".format(*one) for one in (each.capability, TRITON_CAPABILITY))
            return f"{each.name} has compute capability {found}, and Triton needs {needed}"
    return None


@functools.cache
def _native_reason(operator: str, device: str) -> str | None:
    if OPERATORS[operator].composed:
        return None
    if device not in OPERATORS[operator].compiled:
        return f"{operator} has no native kernel for {device}"
    if device != "numpy":
        load_operators()
    return _native.why_no_kernel(operator, device)


def choose(operator: str, device: str, dtype: str | None = None, size: int | None = None) -> str:
    """Return the implementation to run: "reference", "native" or "triton"."""
    name = requested()
    if name == "auto":
        return _fastest(operator, device, dtype, size)[0]
    reason = why_unavailable(operator, device, name)
    if reason:
        able = [other for other in BACKENDS[1:] if not why_unavailable(operator, device, other)]
        raise InputError(
            f"{operator} on {device}: backend {name!r} cannot run: {reason}; "
            f"use {' or '.join(repr(other) for other in able)}, or 'auto'"
        )
    return name


def _fastest(
    operator: str, device: str, dtype: str | None = None, size: int | None = None
) -> tuple[str, str]:
    """Return the backend that "auto" takes, and why."""
    missed = []
    for row in OPERATORS[operator].fastest:
        if row.holds(device, dtype, size):
            reason = why_unavailable(operator, device, row.backend)
            if reason is None:
                return row.backend, row.why
            missed.append(f"{row.backend} cannot run: {reason}")
    return "reference", "; ".join(missed) or "no other was measured to be faster"


def operator_name(
    operator: str, device: str, dtype: str | None = None, size: int | None = None
) -> str:
    """Return the name in `torch.ops.clipvg` of the implementation that `choose` returns.

    On the devices of its table entry the operator itself runs the kernel registered for it:
    Triton's if it has one, else the native one. The other implementations, and all of them on other
    devices, have names of their own, for which no kernel is ever registered:
    `<operator>_reference`, `<operator>_native`.
    """
    load_operators()
    chosen = choose(operator, device, dtype, size)
    about, added = OPERATORS[operator], None
    if device in about.devices:
        added = "triton" if device in about.triton else "native"
    return operator if chosen == added else f"{operator}_{chosen}"


@functools.cache
def load_operators() -> None:
    """Define every operator in `torch.ops.clipvg` and register its kernels.

    The public functions do this themselves; call it before loading an exported program that
    contains the operators.
    """
    for operator in OPERATORS:
        import_module(f"clipvg.ops.{operator}.op")
    _native.load_torch_library()


def built_for() -> str | None:
    """Describe what the CUDA code in clipvg/_ops was compiled for; None without such code."""
    load_operators()
    code = _native.cuda_code()
    if code is None:
        return None
    return f"{', '.join(code.targets)} (CUDA {gpu.cuda_version(code.toolkit)})"


class Implementation(TypedDict):
    """One implementation of an operator on a kind of device."""

    operator: str
    device: str  # "numpy", "cpu" or "cuda"
    backend: str  # "reference", "native" or "triton"
    available: bool  # whether it can run here
    chosen: bool  # whether a call on that device would run it now
    reason: str | None  # why it is not available, or why it is chosen


def backends() -> list[Implementation]:
    """List every implementation of every operator, for `clipvg info`."""
    rows: list[Implementation] = []
    wanted = requested()
    for operator, about in OPERATORS.items():
        for device in about.devices:
            reasons = {
                name: why_unavailable(operator, device, name)
                or (gpu.why_no_gpu() if device == "cuda" else None)
                for name in BACKENDS[1:]
            }
            best, why = _fastest(operator, device)
            if wanted != "auto":
                best, why = wanted, f"{wanted!r} was asked for"
            for name, reason in reasons.items():
                is_chosen = name == best and reason is None
                rows.append(
                    {
                        "operator": operator,
                        "device": device,
                        "backend": name,
                        "available": reason is None,
                        "chosen": is_chosen,
                        "reason": why if is_chosen else reason,
                    }
                )
    return rows
