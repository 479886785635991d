"""Shapes that no implementation of `multilevel_projection` accepts."""

from __future__ import annotations

from collections.abc import Sequence

from clipvg.errors import InputError

Shape = tuple[int, ...]


def check_shapes(
    levels: Sequence[Shape],
    weight: Shape,
    bias: Shape,
    position: Shape | None,
    index: Shape | None,
    out: Shape | None,
) -> None:
    """Reject shapes that no implementation accepts; the levels are (N, F) matrices or more."""

    def refuse(what: str, shape: object, expected: str) -> None:
        raise InputError(f"multilevel_projection: {what} has shape {shape}; expected {expected}")

    if not levels:
        raise InputError("multilevel_projection: there are no levels; expected at least one")
    first = levels[0]
    if len(first) < 2:
        refuse("levels[0]", first, "(..., V, F)")
    for i, level in enumerate(levels):
        if level != first:
            refuse(f"levels[{i}]", level, f"{first}, that of levels[0]")
    columns = len(levels) * first[-1]
    if len(weight) != 2 or weight[1] != columns:
        refuse("weight", weight, f"(D, {columns}) for {len(levels)} levels of {first[-1]} channels")
    channels = weight[0]
    if bias != (channels,):
        refuse("bias", bias, f"({channels},)")
    if position is not None and position != (first[-2], channels):
        refuse("position", position, f"({first[-2]}, {channels})")
    if index is not None and len(index) != 1:
        refuse("index", index, "(T,)")
    tokens = 1
    for size in first[:-1]:
        tokens *= size
    rows = tokens if index is None else index[0]
    if out is not None and out != (rows, channels):
        refuse("out", out, f"({rows}, {channels})")


def check_index(index: Sequence[int], tokens: int) -> None:
    """Reject an index of tokens that are not there."""
    for row, token in enumerate(index):
        if not 0 <= token < tokens:
            raise InputError(
                f"multilevel_projection: index[{row}] is {token}; expected 0 to {tokens - 1}"
            )
