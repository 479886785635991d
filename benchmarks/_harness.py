"""Time implementations of the same computation on a CPU or a GPU, and record the results."""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _rescoring.peak import (
    SECONDS,
    Peak,
    core_name,
    cpu_flags,
    cpu_name,
    matmul_gflops,
    peak_memory,
)

from clipvg.runtime.files import atomic_path
from clipvg.runtime.waiting import describe_waiting

RESULTS = Path(__file__).parent / "results"
WARM_UP_S = 0.2
MEASURE_S = 1.0
SHARE_ON_GPU = 0.25  # of both times: calls on a GPU are shorter and vary less
SHARE_IF_QUICK = 0.02
MIN_RUNS = 5
COPIED_MIB = 256  # far more than any cache
ENVIRONMENT = (
    "MALLOC_", "LD_PRELOAD", "OMP_", "GOMP_", "KMP_", "MKL_", "ONEDNN_", "CLIPVG_BACKEND",
    "CLIPVG_CPU_ISA",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A computation to time, and the least work it requires (0: do not compare with a peak rate).

    Attributes:
        bytes: bytes that must move: inputs read once and outputs written once.
        flops: floating-point operations of the matrix products.
        dtype: data type of these products.
    """

    name: str
    bytes: int = 0
    flops: int = 0
    dtype: torch.dtype = torch.float32


def options(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that the benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--json", type=Path, help="write the records to this file")
    add("--case", default="", help="only cases whose name contains this")
    add("--quick", action="store_true", help="smoke test: short, and without torch.compile")
    return parser


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure(function: Callable[[], Any], device: str, quick: bool = False) -> dict[str, float]:
    """Return the milliseconds of a call at quantiles 0.2, 0.5 and 0.8.

    On a GPU, also return its peak MiB above what was in use before it.
    """
    share = _share(device, quick)
    end = time.perf_counter() + share * WARM_UP_S
    while time.perf_counter() < end:
        function()
        _synchronise(device)  # otherwise calls queue up, and the warm-up lasts until all are done
    times: list[float] = []
    with peak_memory(device) if device == "cuda" else nullcontext(Peak()) as peak:
        end = time.perf_counter() + share * MEASURE_S
        while len(times) < MIN_RUNS or time.perf_counter() < end:
            start = time.perf_counter()
            function()
            _synchronise(device)
            times.append(1e3 * (time.perf_counter() - start))
    record = dict(
        zip(("ms_20", "ms_50", "ms_80"), np.quantile(times, (0.2, 0.5, 0.8)), strict=True)
    )
    if device == "cuda":
        record["peak_mib"] = peak.mib
    return {name: round(float(value), 4) for name, value in record.items()}


def _share(device: str, quick: bool) -> float:
    return SHARE_IF_QUICK if quick else SHARE_ON_GPU if device == "cuda" else 1.0


@functools.cache
def copy_bandwidth(device: str, quick: bool = False) -> float:
    """Return GB/s, bytes read plus bytes written, of torch's copy between existing buffers."""
    source = torch.ones(COPIED_MIB << 18, device=device)
    target = torch.zeros_like(source)
    milliseconds = measure(lambda: target.copy_(source), device, quick)["ms_50"]
    return round(2 * source.nbytes / milliseconds / 1e6, 1)


@functools.cache
def matmul_peak(device: str, dtype: torch.dtype, quick: bool = False) -> float:
    """Return the best GFLOP/s of torch's products of large square matrices."""
    return round(matmul_gflops(dtype, device, seconds=_share(device, quick) * SECONDS), 1)


def why_no_compile(device: str) -> str | None:
    """Return why torch.compile cannot be timed on a device, or None if it can."""
    if device == "cpu" and shutil.which("g++") is None and shutil.which("clang++") is None:
        return "no C++ compiler"
    return None


def compiles(device: str, *, first: bool, quick: bool) -> bool:
    """Return whether to time torch.compile: on a GPU, where time is short, the first case only."""
    return why_no_compile(device) is None and not quick and (first or device == "cpu")


def compare(
    operator: str,
    case: Case,
    providers: dict[str, Callable[[], Any]],
    device: str,
    *,
    quick: bool = False,
) -> list[dict[str, Any]]:
    """Time every provider of a case; the first is the baseline of the speed-ups.

    If the case gives bytes, each record has the share of the copy bandwidth that is reached. If it
    gives flops, each has the share of the roofline: the slower of the matrix products at their peak
    rate and, if bytes are given, of the copy. Both peaks are measured once per process.
    """
    copied = copy_bandwidth(device, quick) if case.bytes else 0.0
    peak = matmul_peak(device, case.dtype, quick) if case.flops else 0.0
    records: list[dict[str, Any]] = []
    for name, function in providers.items():
        timed = measure(function, device, quick)
        record = {"operator": operator, "case": case.name, "provider": name, **timed}
        first = records[0] if records else record
        record |= {
            "baseline": first["provider"],
            "speedup": round(first["ms_50"] / record["ms_50"], 2),
        }
        share = ""
        if case.bytes:
            speed = case.bytes / record["ms_50"] / 1e6
            record |= {
                "bytes": case.bytes,
                "gb_per_s": round(speed, 2),
                "copy_gb_per_s": copied,
                "share_of_copy": round(speed / copied, 3),
            }
            share = f"{speed:8.2f} of {copied} GB/s"
        if case.flops:
            speed = case.flops / record["ms_50"] / 1e6
            least_ms = max(case.flops / peak, case.bytes / copied if copied else 0.0) / 1e6
            record |= {
                "flops": case.flops,
                "gflops": round(speed, 1),
                "matmul_peak_gflops": peak,
                "share_of_roofline": round(least_ms / record["ms_50"], 3),
            }
            share = f"{speed:8.0f} of {peak} GFLOP/s"
        records.append(record)
        print(
            f"{case.name:32s} {name:32s} {record['ms_50']:9.3f} ms  x{record['speedup']:<7}{share}",
            flush=True,
        )
    return records


def chosen(sizes: dict[str, Any], text: str) -> dict[str, Any]:
    """Return the cases whose name contains the text; if there is none, exit and list all names."""
    found = {name: size for name, size in sizes.items() if text in name}
    if not found:
        sys.exit(f"no case has {text!r} in its name; there are {', '.join(map(repr, sizes))}")
    return found


def conditions(device: str) -> dict[str, Any]:
    """Return what the results depend on: hardware, threads, versions, commit and command."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    return {
        "device": name,
        "cpu": cpu_name(),
        "cpu_core": core_name(),
        "cpu_flags": cpu_flags(),
        "waiting": describe_waiting(),
        "cpu_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device == "cuda" else None,
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join([*_environment(), "python", shlex.join(sys.argv)]),
    }


def place(device: str) -> str:
    """Return hardware and torch version for a file name: zen5-cpu2-pt215, NVIDIA_H200-pt211."""
    version = "pt" + "".join(torch.__version__.split(".")[:2])
    if device == "cuda":
        return f"{torch.cuda.get_device_name().replace(' ', '_')}-{version}"
    return f"{core_name()}-cpu{torch.get_num_threads()}-{version}"


def _environment() -> list[str]:
    """Return the variables that affect how this process computes, as NAME=VALUE for a shell."""
    named = sorted((k, v) for k, v in os.environ.items() if k.startswith(ENVIRONMENT))
    return [f"{name}={shlex.quote(value)}" for name, value in named]


def commit() -> str:
    """Return CLIPVG_COMMIT if set (a copy of the sources has no history), else git's short hash."""
    if given := os.environ.get("CLIPVG_COMMIT"):
        return given
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, cwd=RESULTS.parent)
    except FileNotFoundError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def write(path: Path, records: list[dict[str, Any]], device: str) -> None:
    """Write the records and their conditions; replace the file's earlier records of these cases.

    Cases can thus be run one at a time and written as soon as they are done: every record has its
    own command, commit and date. An interrupted process leaves a complete file.
    """
    found = conditions(device)
    own = {name: found[name] for name in ("command", "commit", "date")}
    records = [record | own for record in records]
    cases = {record["case"] for record in records}
    earlier = json.loads(path.read_text())["records"] if path.exists() else []
    kept = [record for record in earlier if record["case"] not in cases]
    with atomic_path(path) as part:
        everything = {"conditions": found, "records": kept + records}
        part.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    print(place("cuda" if torch.cuda.is_available() else "cpu"))
