"""Box formats, area and IoU on NumPy arrays; ``clipvg.ops.boxes`` has the IoU of tensors.

Formats: ``xyxy`` (left, top, right, bottom), ``xywh`` (left, top, width, height) and ``cxcywh``
(centre, width, height), in any unit. Half precision is computed in float32 and integers in int64:
the area of 300 x 300 pixels exceeds the range of float16 and int16.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from clipvg.errors import InputError, near_matches

try:
    from clipvg._C import iou as _compiled_iou
except ImportError:  # not built
    _compiled_iou = None

FORMATS = ("xyxy", "xywh", "cxcywh")
EPS = 1e-16  # as in the published IoU: two empty boxes give 0, not NaN


def convert(boxes: ArrayLike, source: str, target: str) -> np.ndarray:
    """Convert boxes to another format.

    Args:
        boxes: (..., 4) array; floating dtypes are kept, integers become int64 unless a centre is
            involved (then float64).
        source: format of ``boxes``: "xyxy", "xywh" or "cxcywh".
        target: format to return.

    Returns:
        Array of the same shape.

    Raises:
        InputError: a format is unknown, or the last axis is not of length 4.
    """
    given = _array(boxes)
    boxes = _as_boxes(given)
    for name in (source, target):
        if name not in FORMATS:
            raise InputError(f"unknown box format {name!r}: {near_matches(name, FORMATS)}")
    if source == target:
        return given.copy()
    if "cxcywh" in (source, target) and not np.issubdtype(boxes.dtype, np.floating):
        boxes = boxes.astype(np.float64)
    converted = _from_corners(_to_corners(boxes, source), target)
    return converted.astype(given.dtype) if given.dtype == np.float16 else converted


def area(boxes: ArrayLike) -> np.ndarray:
    """Area of xyxy boxes, (..., 4) -> (...); a reversed box has area 0, float16 gives float32."""
    boxes = _as_boxes(boxes)
    return np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1)


def iou(a: ArrayLike, b: ArrayLike, *, eps: float = EPS) -> np.ndarray:
    """Return the IoU of xyxy boxes, elementwise or, for shapes that broadcast, pairwise.

    Args:
        a: (..., 4) boxes.
        b: (..., 4) boxes in the same unit.
        eps: added to the union, so that two empty boxes give 0.

    Returns:
        (...) floating array in [0, 1]; float32 for boxes in float16.

    Example:
        >>> boxes = np.array([[0, 0, 2, 2], [0, 0, 1, 2]])
        >>> iou(boxes, boxes).tolist(), iou(boxes[:, None], boxes[None]).tolist()
        ([1.0, 1.0], [[1.0, 0.5], [0.5, 1.0]])
    """
    a, b = _as_boxes(a), _as_boxes(b)
    if not 0 < eps < np.inf:
        raise InputError(f"iou: eps is {eps}; expected a number above 0, and finite")
    if _compiled_iou and a.ndim == 2 and a.shape == b.shape and a.dtype == b.dtype == np.float64:
        return _compiled_iou(a, b, eps)
    overlap = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    intersection = np.prod(np.maximum(overlap, 0), axis=-1)
    return intersection / (area(a) + area(b) - intersection + eps)


def _array(boxes: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(boxes)
    except TypeError as error:  # a tensor on a GPU, or in bfloat16, which NumPy lacks
        raise InputError(f"boxes are not an array ({error}); pass tensor.float().cpu()") from None


def _as_boxes(boxes: ArrayLike) -> np.ndarray:
    boxes = _array(boxes)
    if boxes.ndim == 0 or boxes.shape[-1] != 4:
        raise InputError(f"boxes must have shape (..., 4), but got {boxes.shape}")
    if boxes.dtype.kind in "iu":  # unsigned differences, and areas of small dtypes, would wrap
        return boxes.astype(np.int64, copy=False)
    return boxes.astype(np.float32) if boxes.dtype == np.float16 else boxes


def _to_corners(boxes: np.ndarray, source: str) -> np.ndarray:
    first, second = boxes[..., :2], boxes[..., 2:]
    if source == "xywh":
        return np.concatenate([first, first + second], axis=-1)
    if source == "cxcywh":
        return np.concatenate([first - second / 2, first + second / 2], axis=-1)
    return boxes


def _from_corners(corners: np.ndarray, target: str) -> np.ndarray:
    low, high = corners[..., :2], corners[..., 2:]
    if target == "xywh":
        return np.concatenate([low, high - low], axis=-1)
    if target == "cxcywh":
        return np.concatenate([(low + high) / 2, high - low], axis=-1)
    return corners
