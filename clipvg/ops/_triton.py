"""Whether Triton's kernels can run, and why not where they cannot."""

from __future__ import annotations

import functools
import os
import shutil
from importlib.util import find_spec

MIN_CAPABILITY = (8, 0)


@functools.cache
def why_no_triton() -> str | None:
    """Why no Triton kernel can run on the current GPU; None when they can."""
    if find_spec("triton") is None:
        return "Triton is not installed (pip install triton, on Linux)"
    if find_spec("clipvg.kernels") is None:
        return "clipvg.kernels is not installed; reinstall clipvg"
    if not os.environ.get("CC") and not shutil.which("gcc") and not shutil.which("clang"):
        return "Triton needs a C compiler (install gcc, or set CC)"
    import torch

    if not torch.cuda.is_available():
        return "no CUDA device"
    capability = torch.cuda.get_device_capability()
    if torch.version.hip is None and capability < MIN_CAPABILITY:
        found, needed = ("{}.{}".format(*each) for each in (capability, MIN_CAPABILITY))
        return f"the GPU's compute capability is {found}, and Triton needs {needed}"
    return None
