"""Argument checks that all implementations of `box_reliability` share."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np

from clipvg.errors import InputError, near_matches

FORMATS = ("cxcywh", "xyxy")
MAX_BINS = 2**24  # float32 counts exactly up to here
MAX_COUNTS = 2**30  # of a histogram, 8 GiB
LEAST_EPS, MOST_EPS = 2.0**-149, 3.4e38  # range of float32
# Along an axis where a pseudo-box (cxcywh) has a smaller side, coordinates are relative to its
# centre: corners computed in [0, 1] are rounded by up to 2**-25, which is much for a small side.
# Otherwise the published arithmetic is kept to the bit.
SMALL = 1 / 16
_NAMED_ROWS = 5  # bad rows that an error message lists


def check_arguments(
    pred: tuple[int, ...],
    target: tuple[int, ...],
    group: tuple[int, ...] | None,
    num_groups: int,
    bins: int,
    fmt: str,
    eps: float,
) -> None:
    """Reject shapes and options that no implementation accepts."""
    if len(pred) != 3 or pred[-1] != 4:
        raise InputError(f"box_reliability: pred has shape {pred}; expected (n, N, 4) or (N, 4)")
    if tuple(target) != (pred[1], 4):
        raise InputError(f"box_reliability: target has shape {target}; expected ({pred[1]}, 4)")
    if group is not None and tuple(group) != (pred[1],):
        raise InputError(f"box_reliability: group has shape {group}; expected ({pred[1]},)")
    if num_groups < 1:
        raise InputError(f"box_reliability: num_groups is {num_groups}; expected at least 1")
    if not 1 <= bins <= MAX_BINS:
        raise InputError(f"box_reliability: bins is {bins}; expected 1 to {MAX_BINS}")
    if max(pred[0], 1) * num_groups * bins > MAX_COUNTS:
        raise InputError(
            f"box_reliability: {pred[0]} measurers, {num_groups} groups and {bins} bins make more "
            f"than {MAX_COUNTS} counts; lower num_groups or bins"
        )
    if not LEAST_EPS <= eps <= MOST_EPS:  # NaN is refused as well
        raise InputError(
            f"box_reliability: eps is {eps}; expected a float32 above 0, and finite: the IoU would "
            "leave [0, 1]"
        )
    if fmt not in FORMATS:
        raise InputError(f"box_reliability: unknown fmt {fmt!r}; {near_matches(str(fmt), FORMATS)}")


def check_numbers(num_groups: object, bins: object, eps: object) -> None:
    """Reject options that are not numbers; `check_arguments` checks their limits."""
    for name, value in (("num_groups", num_groups), ("bins", bins)):
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise InputError(f"box_reliability: {name} is {value!r}; expected a whole number")
    if isinstance(eps, bool) or not isinstance(eps, Real):
        raise InputError(f"box_reliability: eps is {eps!r}; expected a number")


def check_integer(is_integer: bool, dtype: object) -> None:
    """Reject groups that are not of an integer dtype."""
    if not is_integer:
        raise InputError(f"box_reliability: group is {dtype}; expected an integer dtype")


def raise_bad_rows(iou: np.ndarray, group: np.ndarray | None, num_groups: int) -> None:
    """Raise InputError for rows that are in no bin: box not finite, or group out of range."""
    measurers, rows = np.isnan(iou).nonzero()
    if len(rows):
        named = [f"row {row} of measurer {m}" for m, row in zip(measurers, rows, strict=True)]
        raise InputError(
            f"box_reliability: {len(rows)} of {iou.size} rows hold a coordinate that is not finite "
            f"({_first(named)}); expected finite boxes. "
            "Remove those rows, or check the model's weights and precision"
        )
    assert group is not None
    bad = ((group < 0) | (group >= num_groups)).nonzero()[0]
    raise InputError(
        f"box_reliability: {len(bad)} of {len(group)} groups are outside 0..{num_groups - 1} "
        f"({_first([f'row {row}: {group[row]}' for row in bad])}); "
        "raise num_groups or fix the groups"
    )


def _first(items: list[str]) -> str:
    return ", ".join(items[:_NAMED_ROWS]) + (", ..." if len(items) > _NAMED_ROWS else "")
