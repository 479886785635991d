"""Load the compiled libraries of this package, or say why they are missing."""

from __future__ import annotations

import ctypes
import functools
import json
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from clipvg.runtime import gpu

_PACKAGE = Path(__file__).resolve().parent.parent


@functools.cache
def build_record() -> dict:
    """Return setup.py's record: `mode`, and `missing`: why a part was not built (None: it was)."""
    try:
        return json.loads((_PACKAGE / "_build.json").read_text())
    except FileNotFoundError:
        return {"mode": None, "missing": {}}


def _why_not_built(part: str) -> str | None:
    reason = build_record()["missing"].get(part)
    return f"not built: {reason}" if reason else None


@functools.cache
def numpy_module() -> tuple[ModuleType | None, str | None]:
    """Return `clipvg._C` and None, or None and the reason why it is missing."""
    reason = _why_not_built("numpy")
    if reason:
        return None, reason
    try:
        return import_module("clipvg._C"), None
    except ImportError as error:
        return None, f"clipvg._C does not import ({error}); reinstall clipvg"


@functools.cache
def load_torch_library() -> str | None:
    """Register the native kernels for the operators, which must be defined already.

    Returns:
        None if they are registered, else the reason why not.
    """
    import torch

    reason = _why_not_built("torch_cpu")
    if reason:
        return reason
    path = _library()
    if path is None:
        return "not built: no clipvg/_ops library; reinstall clipvg"
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        return f"{path.name} does not load with torch {torch.__version__} ({error}); reinstall"
    return None


def _library() -> Path | None:
    return next(iter(sorted(_PACKAGE.glob("_ops*.so"))), None)


class CudaCode(NamedTuple):
    """What the CUDA code in clipvg/_ops was compiled for, as the library reports it."""

    toolkit: int  # version of the compiler, as 13000 for 13.0
    # "sm_90" for machine code, "compute_90" for PTX, from which a driver that is as new as the
    # toolkit makes machine code for newer GPUs
    targets: tuple[str, ...]


@functools.cache
def cuda_code() -> CudaCode | None:
    """Load the library and return what it reports of its CUDA code; None if there is none."""
    path = None if load_torch_library() or _why_not_built("torch_cuda") else _library()
    if path is None:
        return None
    describe = getattr(ctypes.CDLL(str(path)), "clipvg_cuda_code", None)
    if describe is None:  # the library is from an earlier build
        return None
    describe.restype = ctypes.c_char_p
    toolkit, targets = describe().decode().split(" ", 1)
    return CudaCode(int(toolkit), tuple(targets.replace(" ", "").split(",")))


def why_not_for(code: CudaCode, device: gpu.Gpu, driver: int) -> str | None:
    """Return why CUDA code cannot run on a GPU and driver (as in `gpu.Facts`); None if it can."""
    number = "{}.{}".format(*device.capability)
    remedy = f"reinstall with TORCH_CUDA_ARCH_LIST={number}"
    kinds = {kind for kind, holds in map(_target, code.targets) if holds(device.capability)}
    if "sm" in kinds:
        return None
    if not kinds:
        built = ", ".join(code.targets)
        return f"clipvg/_ops is built for {built}, and {device.name} is of {number}; {remedy}"
    if driver < code.toolkit:
        needed, found = map(gpu.cuda_version, (code.toolkit, driver))
        return (
            f"{device.name} ({number}) is newer than the build of clipvg/_ops, and the driver runs "
            f"CUDA {found}, not {needed}; update the driver, or {remedy}"
        )
    return None


def _target(name: str) -> tuple[str, Callable[[gpu.Capability], bool]]:
    """Return a target's kind, "sm" or "compute", and the test of which capabilities can run it."""
    found = re.fullmatch(r"(sm|compute)_(\d+)(\d)(\w?)", name)
    assert found, name
    kind, least = found[1], (int(found[2]), int(found[3]))
    if found[4]:  # "sm_90a": for that capability alone
        return kind, lambda capability: capability == least
    if kind == "compute":
        return kind, lambda capability: capability >= least
    return kind, lambda capability: capability >= least and capability[0] == least[0]


def why_no_kernel(operator: str, device: str) -> str | None:
    """Return why `operator` has no native kernel for "numpy", "cpu" or "cuda"; None if it has."""
    if device == "numpy":
        return numpy_module()[1]
    reason = load_torch_library()
    if reason is None and device == "cuda":
        reason = _why_not_built("torch_cuda")
    code = cuda_code() if reason is None and device == "cuda" else None
    if code is not None:
        known = gpu.facts()
        every = (why_not_for(code, each, known.driver) for each in known.gpus)
        reason = next(filter(None, every), None)
    if reason is None and not has_kernel(operator, device):
        reason = f"clipvg/_ops has no {device} kernel for {operator}"
    return reason


def has_kernel(operator: str, device: str) -> bool:
    """Whether a kernel is registered for an operator on a device."""
    import torch

    return torch._C._dispatch_has_kernel_for_dispatch_key(f"clipvg::{operator}", device.upper())
