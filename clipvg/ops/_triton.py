"""Whether Triton's kernels can run, and why not where they cannot."""

from __future__ import annotations

import functools
import os
import shutil
from importlib.util import find_spec

from clipvg.runtime import gpu

MIN_CAPABILITY = (8, 0)


@functools.cache
def why_no_triton() -> str | None:
    """Why no Triton kernel can run on the GPUs here; None when they can."""
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
        if each.capability < MIN_CAPABILITY:
            found, needed = ("{}.{}".format(*one) for one in (each.capability, MIN_CAPABILITY))
            return f"{each.name} has compute capability {found}, and Triton needs {needed}"
    return None
