"""What the machine can do: matrix products at best and at a stage's own shapes; memory in use."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

Shape = tuple[int, int, int]  # (m, k) times (k, n)

_SIDE = {"cpu": 2048, "cuda": 8192}
SECONDS = 0.5  # of repetitions


def matmul_gflops(
    dtype: torch.dtype, device: str, shapes: list[Shape] | None = None, seconds: float = SECONDS
) -> float:
    """GFLOP/s of matrix products of some shapes, one after the other; large squares when None.

    The best of the repetitions: what the rest could reach, not what is usual.
    """
    side = _SIDE[torch.device(device).type]
    shapes = shapes or [(side, side, side)]
    pairs = [
        (torch.randn(m, k, device=device).to(dtype), torch.randn(n, k, device=device).to(dtype))
        for m, k, n in shapes
    ]
    flops = sum(2 * m * k * n for m, k, n in shapes)

    def once() -> float:
        start = time.perf_counter()
        for a, b in pairs:
            torch.nn.functional.linear(a, b)
        synchronise(device)
        return time.perf_counter() - start

    once()
    best, end = once(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, once())
    return flops / best / 1e9


def synchronise(device: str | torch.device) -> None:
    """Wait for a GPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


class Peak:
    """Peak memory of a block: MiB above what was in use before it.

    On a GPU allocated device memory; on a CPU resident memory, whose mark Linux lets a process
    reset (elsewhere the growth of the process's all-time peak).
    """

    mib = 0.0


@contextmanager
def peak_memory(device: str | torch.device) -> Iterator[Peak]:
    """Measure the peak memory of the block."""
    peak = Peak()
    if torch.device(device).type == "cuda":
        synchronise(device)
        torch.cuda.reset_peak_memory_stats()
        read: Callable[[], int] = torch.cuda.max_memory_allocated
        before = torch.cuda.memory_allocated()
    else:
        _reset_mark()
        read, before = peak_resident, resident()
    yield peak
    peak.mib = (read() - before) / 2**20


def resident() -> int:
    """Bytes of memory in use by this process."""
    return _status("VmRSS")


def settled() -> int:
    """Bytes in use when what was freed is given back to the system."""
    _give_back()
    return resident()


def peak_resident() -> int:
    """Most bytes in use since the mark was reset."""
    return _status("VmHWM")


def _give_back() -> None:
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _reset_mark() -> None:
    _give_back()  # memory that an earlier run freed would hide what this one needs
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def cpu_flags() -> list[str]:
    """Instruction sets of the CPU that matter here."""
    wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_fp16")
    try:
        words = Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
    except (OSError, IndexError):
        return []
    return [flag for flag in wanted if flag in words]


def cpu_name() -> str:
    """The CPU's own name."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "unknown"
    return text.split("model name", 1)[-1].split("\n", 1)[0].strip(" \t:") or "unknown"
