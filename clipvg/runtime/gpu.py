"""Facts about the GPUs here, asked for in one place only, so that tests can imitate any machine."""

from __future__ import annotations

import ctypes
import functools
import sys
import warnings
from dataclasses import dataclass
from typing import NamedTuple

Capability = tuple[int, int]

_WITH_BF16 = (8, 0)  # older GPUs emulate bfloat16, which is slower than float32


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch can use."""

    name: str  # as the driver calls it
    capability: Capability  # compute capability, (major, minor)
    memory_gib: float  # total memory


class Facts(NamedTuple):
    """What torch and the driver report."""

    gpus: tuple[Gpu, ...]  # those that can be used, in torch's order
    # version of CUDA that torch was built for, such as "13.0"; None for other builds
    cuda: str | None
    hip: str | None  # the same for AMD's ROCm
    driver: int  # newest CUDA that NVIDIA's driver runs, as 13000 for 13.0; 0 without a driver


@functools.cache
def facts() -> Facts:
    """Return the facts about this process's GPUs, which are asked for once."""
    import torch

    with warnings.catch_warnings():  # about an old driver: why_no_gpu reports it
        warnings.simplefilter("ignore")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    every = (torch.cuda.get_device_properties(index) for index in range(count))
    gpus = (Gpu(p.name, (p.major, p.minor), round(p.total_memory / 2**30, 1)) for p in every)
    return Facts(tuple(gpus), torch.version.cuda, torch.version.hip, _driver())


def _driver() -> int:
    """Return the newest CUDA that NVIDIA's driver runs; torch does not tell if it is too old."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    version = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    return version.value


def why_no_gpu() -> str | None:
    """Return why torch can use no GPU as "cuda"; None if it can."""
    known = facts()
    if known.gpus:
        return None
    if not known.cuda and not known.hip:
        return "this PyTorch is built without CUDA"
    if known.cuda and 0 < known.driver < int(known.cuda.split(".")[0]) * 1000:
        return (
            f"the NVIDIA driver runs CUDA {cuda_version(known.driver)} and this PyTorch needs "
            f"{known.cuda}; update the driver, or install a PyTorch for an older CUDA"
        )
    return "no CUDA device"


def cuda_version(number: int) -> str:
    """Return "13.0" for 13000."""
    return f"{number // 1000}.{number % 1000 // 10}"


def has_bf16() -> bool:
    """Return whether every GPU here computes in bfloat16 natively; True if there is none."""
    known = facts()
    return bool(known.hip) or all(gpu.capability >= _WITH_BF16 for gpu in known.gpus)
