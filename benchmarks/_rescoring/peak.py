"""Measure peak rates of matrix products and memory in use, and identify the CPU."""

from __future__ import annotations

import ctypes
import gc
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import torch

from clipvg.ops.linear import fast_cpu, linear

Shape = tuple[int, int, int]  # (m, k) times (k, n)

_SIDE = {"cpu": 2048, "cuda": 8192}
SECONDS = 0.5  # for which products are repeated
_TOKENS = 8 * 197
BLOCK: list[Shape] = [
    (_TOKENS, 768, 2304), (_TOKENS, 768, 768), (_TOKENS, 768, 3072), (_TOKENS, 3072, 768),
]  # fmt: skip


def matmul_gflops(
    dtype: torch.dtype, device: str, shapes: list[Shape] | None = None, seconds: float = SECONDS
) -> float:
    """Return GFLOP/s of matrix products of some shapes, one after the other; large squares if None.

    It is the best of all repetitions, on a CPU in float32 with MKL and with oneDNN: what the rest
    of the code could reach, not what is usual.
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
            linear(a, b)
        synchronise(device)
        return time.perf_counter() - start

    best = float("inf")
    for ways in (nullcontext, fast_cpu):
        with ways():
            once()
            best, end = min(best, once()), time.perf_counter() + seconds / 2
            while time.perf_counter() < end:
                best = min(best, once())
    return flops / best / 1e9


def product_rates(device: str, seconds: float = SECONDS) -> dict[str, float]:
    """Return GFLOP/s of a ViT-B/16 block's products on tokens of eight images, by precision."""
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return {
        name: round(matmul_gflops(dtype, device, BLOCK, seconds), 1)
        for name, dtype in kinds.items()
    }


def synchronise(device: str | torch.device) -> None:
    """Wait for a GPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


class Peak:
    """Peak memory of a block: MiB above what was in use before it.

    On a GPU, allocated device memory; on a CPU, resident memory, whose high-water mark Linux lets a
    process reset (elsewhere, the growth of the process's all-time peak).
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
    """Return the bytes of memory in use by this process."""
    return _status("VmRSS")


def settled() -> int:
    """Return the bytes in use after returning freed memory to the system."""
    _give_back()
    return resident()


def peak_resident() -> int:
    """Return the most bytes in use since the high-water mark was reset."""
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
    """Return the CPU's instruction sets that matter here."""
    wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_fp16")
    words = _cpu_facts().get("flags", "").split()
    return [flag for flag in wanted if flag in words]


def cpu_name() -> str:
    """Return the CPU's own name."""
    return _cpu_facts().get("model name") or "unknown"


def core_name(facts: dict[str, str] | None = None) -> str:
    """Return the CPU's core in a word, for a file name: virtual machines hide the product."""
    facts = _cpu_facts() if facts is None else facts
    maker, family, model = (facts.get(key, "") for key in ("vendor_id", "cpu family", "model"))
    known = _CORES.get((maker, family, model)) or _CORES.get((maker, family, ""))
    return known or "-".join(filter(None, (maker.lower(), family, model))) or platform.machine()


# Vendor, family, and the model where a family has several cores.
_CORES = {
    ("AuthenticAMD", "23", ""): "zen2", ("AuthenticAMD", "26", ""): "zen5",
    ("AuthenticAMD", "25", "1"): "zen3", ("AuthenticAMD", "25", "17"): "zen4",
    ("GenuineIntel", "6", "85"): "skylake", ("GenuineIntel", "6", "106"): "icelake",
    ("GenuineIntel", "6", "143"): "sapphirerapids", ("GenuineIntel", "6", "207"): "emeraldrapids",
    ("GenuineIntel", "6", "173"): "graniterapids",
}  # fmt: skip


def _cpu_facts() -> dict[str, str]:
    """Return the entries of /proc/cpuinfo for the first core; empty if there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
