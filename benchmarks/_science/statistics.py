"""Means over seeds with their confidence intervals, and Markdown tables of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import stats

Record = dict[str, Any]


def paired(values: Sequence[float], baseline: Sequence[float]) -> Record:
    """Mean difference over seeds with its 95 % interval (Student's t, paired)."""
    return interval(np.subtract(values, baseline))


def interval(values: Iterable[float]) -> Record:
    """Mean with its 95 % interval (Student's t); no interval of a single value."""
    found = np.asarray(list(values), dtype=np.float64)
    mean = float(found.mean())
    if len(found) < 2:
        return {"mean": mean, "low": None, "high": None, "n": len(found)}
    half = float(stats.t.ppf(0.975, len(found) - 1) * stats.sem(found))
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": len(found)}


def signed(found: Record) -> str:
    """Format a difference with its interval: `+3.1 (+2.0 to +4.2)`."""
    if found["low"] is None:
        return f"{found['mean']:+.1f}"
    return f"{found['mean']:+.1f} ({found['low']:+.1f} to {found['high']:+.1f})"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; floats are rounded to one decimal."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if isinstance(value, float) else str(value)
