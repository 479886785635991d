"""Timing of alternatives that compute the same, and the records of it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

RESULTS = Path(__file__).parent / "results"
WARM_UP_S = 0.2
MEASURE_S = 1.0
MIN_RUNS = 5


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure(function: Callable[[], Any], device: str) -> dict[str, float]:
    """Milliseconds of a call at quantiles 0.2, 0.5 and 0.8, and peak MiB on a GPU."""
    end = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < end:
        function()
    _synchronise(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times: list[float] = []
    end = time.perf_counter() + MEASURE_S
    while len(times) < MIN_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        _synchronise(device)
        times.append(1e3 * (time.perf_counter() - start))
    record = dict(
        zip(("ms_20", "ms_50", "ms_80"), np.quantile(times, (0.2, 0.5, 0.8)), strict=True)
    )
    if device == "cuda":
        record["peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return {name: round(float(value), 4) for name, value in record.items()}


def compare(
    operator: str, case: str, providers: dict[str, Callable[[], Any]], device: str
) -> list[dict[str, Any]]:
    """Times every provider of one case; the first is the baseline of the others' ratio."""
    records: list[dict[str, Any]] = []
    for name, function in providers.items():
        record = {"operator": operator, "case": case, "provider": name, **measure(function, device)}
        first = records[0] if records else record
        record |= {
            "baseline": first["provider"],
            "speedup": round(first["ms_50"] / record["ms_50"], 2),
        }
        records.append(record)
        print(f"{case:32s} {name:24s} {record['ms_50']:9.3f} ms  x{record['speedup']}", flush=True)
    return records


def conditions(device: str) -> dict[str, Any]:
    """What the numbers depend on."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent
    ).stdout.strip()
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    return {
        "device": name,
        "cpu_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device == "cuda" else None,
        "commit": commit,
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", *sys.argv]),
    }


def write(name: str, records: list[dict[str, Any]], device: str) -> Path:
    """Writes results/<name>-<device>-pt<version>.json in place of an earlier record."""
    found = conditions(device)
    label = found["device"].lower().replace(" ", "-")
    version = ".".join(found["torch"].split("+")[0].split(".")[:2])
    path = RESULTS / f"{name}-{label}-pt{version}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"conditions": found, "records": records}, indent=1) + "\n")
    print(f"wrote {path.relative_to(RESULTS.parent.parent)}")
    return path
