"""The compiled libraries beside this package, and why they are absent where they are."""

from __future__ import annotations

import functools
import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

_PACKAGE = Path(__file__).resolve().parent.parent


@functools.cache
def build_record() -> dict:
    """What setup.py wrote: `mode`, and in `missing` why each part was not built (None: it was)."""
    try:
        return json.loads((_PACKAGE / "_build.json").read_text())
    except FileNotFoundError:
        return {"mode": None, "missing": {}}


def _why_not_built(part: str) -> str | None:
    reason = build_record()["missing"].get(part)
    return f"not built: {reason}" if reason else None


@functools.cache
def numpy_module() -> tuple[ModuleType | None, str | None]:
    """`clipvg._C`, or None and the reason."""
    reason = _why_not_built("numpy")
    if reason:
        return None, reason
    try:
        return import_module("clipvg._C"), None
    except ImportError as error:
        return None, f"clipvg._C does not import ({error}); reinstall clipvg"


@functools.cache
def load_torch_library() -> str | None:
    """Add the native kernels to the operators, which must be defined already.

    Returns:
        None when they are there, else the reason why not.
    """
    import torch

    reason = _why_not_built("torch_cpu")
    if reason:
        return reason
    paths = sorted(_PACKAGE.glob("_ops*.so"))
    if not paths:
        return "not built: no clipvg/_ops library; reinstall clipvg"
    try:
        torch.ops.load_library(str(paths[0]))
    except OSError as error:
        return f"{paths[0].name} does not load with torch {torch.__version__} ({error}); reinstall"
    return None


def why_no_kernel(operator: str, device: str) -> str | None:
    """Why `operator` has no native kernel for "numpy", "cpu" or "cuda"; None when it has."""
    if device == "numpy":
        return numpy_module()[1]
    import torch

    reason = load_torch_library()
    if reason is None and device == "cuda":
        reason = _why_not_built("torch_cuda")
    if reason is None and not torch._C._dispatch_has_kernel_for_dispatch_key(
        f"clipvg::{operator}", device.upper()
    ):
        reason = f"clipvg/_ops has no {device} kernel for {operator}"
    return reason
