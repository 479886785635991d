"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence


def percent(value: float | None, *, digits: int = 1) -> str:
    """Write a share as a percentage, 0.6542 as "65.4 %"; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def points(difference: float, *, digits: int = 1) -> str:
    """Write a difference of two shares in percentage points with its sign, 0.072 as "+7.2"."""
    return f"{100 * difference:+.{digits}f}"


def listed(values: Sequence[float | None] | float | None) -> str:
    """Write one number or several, joined by commas; a dash for None."""
    each = values if isinstance(values, Sequence) else [values]
    return ", ".join("–" if value is None else f"{value:g}" for value in each)
