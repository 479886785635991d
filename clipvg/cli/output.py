"""How results look in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def pairs(values: Mapping[str, Any]) -> str:
    """Aligned lines "name  value"; nothing for no values."""
    width = max(map(len, values), default=0)
    return "\n".join(f"{name:{width}}  {value}" for name, value in values.items())


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, left: int = 1) -> str:
    """Aligned columns: the first `left` of them to the left, the others to the right."""
    cells = [list(map(str, row)) for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )
