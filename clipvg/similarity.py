"""Box similarities that define reliability: the paper's IoU, GIoU, Dice, PCK or a custom function.

A similarity is a function that compares boxes row by row, see `Similarity`. It is given by its name
in `SIMILARITIES`, or by its import path ``package.module:function``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from clipvg.boxes import EPS, area, convert, iou
from clipvg.errors import InputError, near_matches
from clipvg.runtime.imports import import_named

IOU = "iou"
TOLERANCES = tuple(k / 10 for k in range(1, 11))  # of `pck`, in longer sides of the label's box


class Similarity(Protocol):
    """A function that scores how similar two boxes are."""

    def __call__(self, predicted: np.ndarray, given: np.ndarray, /) -> np.ndarray:
        """Return how similar boxes are, row by row.

        Args:
            predicted: (N, 4) xyxy boxes of a model.
            given: (N, 4) xyxy boxes of the labels, in the same unit.

        Returns:
            (N,) in [0, 1], higher is more similar.
        """


def giou(predicted: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return (GIoU + 1) / 2 of xyxy boxes, (N,); unlike IoU it also ranks disjoint boxes.

    GIoU = IoU - (hull - union) / hull, in [-1, 1] (Rezatofighi et al., CVPR 2019).
    """
    low, high = np.minimum(predicted, given)[:, :2], np.maximum(predicted, given)[:, 2:]
    hull = area(np.concatenate([low, high], axis=1))
    union = area(predicted) + area(given) - _overlap(predicted, given)
    return (1 + iou(predicted, given) - (hull - union) / (hull + EPS)) / 2


def dice(predicted: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return Dice, twice the overlap of xyxy boxes over the sum of their areas, (N,)."""
    return 2 * _overlap(predicted, given) / (area(predicted) + area(given) + EPS)


def pck(predicted: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return PCK of the centres of xyxy boxes, the mean over ten tolerances, (N,).

    A centre is correct at tolerance a if its distance from the label's centre is at most a times
    the longer side of the label's box; a = 0.1, 0.2, ..., 1.
    """
    distance = np.linalg.norm((predicted - given) @ _TO_CENTRE, axis=1)
    side = (given[:, 2:] - given[:, :2]).max(axis=1)
    reached = np.outer(side, TOLERANCES) * (1 + 1e-6)  # a distance equal to the tolerance counts
    return (distance[:, None] <= reached).mean(axis=1)


_TO_CENTRE = np.array([[0.5, 0], [0, 0.5], [0.5, 0], [0, 0.5]])

SIMILARITIES: Mapping[str, Similarity] = {IOU: iou, "giou": giou, "dice": dice, "pck": pck}
_WORDS = {IOU: "IoU", "giou": "GIoU (from 0 to 1)", "dice": "Dice", "pck": "PCK of the centres"}


def find_similarity(name: str) -> Similarity:
    """Return the function of a name in `SIMILARITIES`, or import that of an import path.

    Raises:
        InputError: there is no such function.
    """
    if ":" not in name:
        if name not in SIMILARITIES:
            raise InputError(
                f"no similarity {name!r}: {near_matches(name, SIMILARITIES)}; one of your own is "
                "named package.module:function"
            )
        return SIMILARITIES[name]
    found = import_named(name, "similarity", "function")
    if not callable(found):
        raise InputError(
            f"similarity {name!r} is not a function; expected one of two arrays of boxes"
        )
    return found


def similarity_name(similarity: str | Similarity) -> str:
    """Return the name of a similarity given by name or as a function; "own" if it has none."""
    return similarity if isinstance(similarity, str) else getattr(similarity, "__name__", "own")


def describe_similarity(name: str) -> str:
    """Return the display name of a similarity."""
    return _WORDS.get(name, name.rpartition(":")[2])


def compare(similarity: str | Similarity, predicted: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return the similarity of boxes, checking shapes and values.

    Args:
        similarity: a function or its name.
        predicted: (N, 4) xyxy, NaN where there is no box.
        given: (N, 4) xyxy.

    Returns:
        (N,) float32 in [0, 1], NaN where there is no box.

    Raises:
        InputError: the shapes differ, or the function does not return (N,) numbers in [0, 1].
    """
    function = find_similarity(similarity) if isinstance(similarity, str) else similarity
    predicted, given = np.asarray(predicted), np.asarray(given)
    if predicted.shape != given.shape or predicted.shape[1:] != (4,):
        raise InputError(
            f"predicted boxes have shape {predicted.shape}; expected {given.shape}, one per label."
        )
    known = np.isfinite(predicted).all(axis=1)
    values = np.asarray(function(predicted[known], given[known]))
    if values.shape != (known.sum(),) or not ((values >= -1e-6) & (values <= 1 + 1e-6)).all():
        name = similarity_name(similarity)
        raise InputError(
            f"the similarity {name!r} of {known.sum()} pairs of boxes is {_shown(values)}; "
            f"expected ({known.sum()},) numbers in [0, 1]."
        )
    found = np.full(len(known), np.nan, np.float32)
    found[known] = values.clip(0, 1)
    return found


def compare_in_square(
    similarity: str | Similarity, predicted: np.ndarray, given: np.ndarray
) -> np.ndarray:
    """Return the similarity of (N, 4) cxcywh boxes in the unit square, clipping predictions to it.

    Arguments and result are otherwise those of `compare`.
    """
    corners = convert(predicted, "cxcywh", "xyxy").clip(0, 1)
    return compare(similarity, corners, convert(given, "cxcywh", "xyxy"))


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low, high = np.maximum(a, b)[:, :2], np.minimum(a, b)[:, 2:]
    return area(np.concatenate([low, high], axis=1))


def _shown(values: np.ndarray) -> str:
    """Describe what a function returned in a few words."""
    if not np.issubdtype(values.dtype, np.number) or values.ndim != 1 or not values.size:
        return f"{values.dtype} of shape {values.shape}"
    return f"{values.min():g} to {values.max():g} of shape {values.shape}"
