"""Convert distances, losses and ranks to reliability in [0, 1], higher = more reliable."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt

from clipvg.errors import InputError, MissingExtraError


def halving(values: npt.ArrayLike, scale: float | None = None) -> np.ndarray:
    """Return 2^(-value / scale): 1 at zero, 0.5 at the scale.

    Args:
        values: (N,) numbers >= 0, NaN where unknown; inf gives 0.
        scale: value that gets 0.5; None takes the median of the finite values, so that the better
            half of the labels is above 0.5.

    Returns:
        (N,) float32 in [0, 1], NaN where unknown.
    """
    values = np.asarray(values, dtype=np.float64)
    if scale is None:
        finite = values[np.isfinite(values)]
        scale = float(np.median(finite)) if finite.size else 1.0
        if scale <= 0:  # most values are zero: any positive one is the exception
            above = finite[finite > 0]
            scale = float(np.median(above)) if above.size else 1.0
    if not scale > 0:
        raise InputError(f"scale is {scale}; expected a positive number, or None for the median.")
    return np.exp2(-values / scale).astype(np.float32)


def conformal(reference: npt.ArrayLike, distance: npt.ArrayLike, *, own: bool) -> np.ndarray:
    """Return the share of the reference that lies at least as far out as each value.

    The conformal p-value of Bates, Candès, Lei, Romano and Sesia (Annals of Statistics, 2023):
    (1 + #{reference >= distance}) / (1 + M); without the two ones if the values are the reference.

    Args:
        reference: (M,) distances of the reference, larger = further out.
        distance: (N,) distances to judge; NaN stays NaN.
        own: whether the values are themselves the reference.
    """
    known = np.asarray(reference, dtype=np.float64)
    known = np.sort(known[~np.isnan(known)])
    distance = np.asarray(distance, dtype=np.float64)
    beyond = len(known) - np.searchsorted(known, distance, side="left")
    share = beyond / max(len(known), 1) if own else (1 + beyond) / (1 + len(known))
    return np.where(np.isnan(distance), np.nan, share).astype(np.float32)


def ranks(values: npt.ArrayLike) -> np.ndarray:
    """Return each value's mean rank divided by the number of values, in (0, 1]; NaN stays NaN.

    Args:
        values: (..., N); ranks run along the last axis, ties share their mean rank.
    """
    stats = extra("scipy.stats", "ranks")
    values = np.asarray(values, dtype=np.float64)
    count = np.sum(~np.isnan(values), axis=-1, keepdims=True)
    found = stats.rankdata(values, axis=-1, nan_policy="omit")
    return (found / np.maximum(count, 1)).astype(np.float32)


def extra(module: str, purpose: str) -> ModuleType:
    """Import a module of scikit-learn or SciPy.

    Raises:
        MissingExtraError: it is not installed; the message has the command that installs it.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError.for_extra(purpose, "measures") from error
