"""Reliability of boxes: IoU with the pseudo-boxes, and its histogram by group, in one pass."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from clipvg.boxes import EPS
from clipvg.errors import InputError
from clipvg.ops import _native
from clipvg.ops._dispatch import choose
from clipvg.ops.box_reliability.checks import (
    check_arguments,
    check_integer,
    check_numbers,
    raise_bad_rows,
)

if TYPE_CHECKING:
    from torch import Tensor


def box_reliability(
    pred: Tensor,
    target: Tensor,
    *,
    group: Tensor | None = None,
    num_groups: int | None = None,
    bins: int = 1000,
    fmt: str = "cxcywh",
    eps: float = EPS,
) -> tuple[Tensor, Tensor]:
    """Compute the IoU of every measurer's box with the pseudo-box, and its histogram by group.

    Implements r = IoU(M(image, expression), pseudo-box), the reliability of CLIP-VG
    (arXiv 2305.08685). Predictions are clamped to [0, 1] after conversion to xyxy,
    pseudo-boxes are not. Arithmetic is float32 whatever the dtype, and every implementation
    rounds alike: histograms are equal on every device. The result is within 1e-5 of the true IoU
    for boxes whose centres lie in the image and whose sides are 1e-3 and more; within 2.5e-4 in
    float64, which is rounded to float32 first. There is no gradient.

    Args:
        pred: boxes of n measurers, (n, N, 4), or (N, 4) for one; float32, float64, float16 or
            bfloat16; normalised to the image.
        target: pseudo-boxes (N, 4) in the same format, dtype and device.
        group: group (source) of each label, (N,), any integer dtype; all labels are in group 0
            when None.
        num_groups: number of groups; when None, 1 without `group`, else the largest group + 1
            (which needs the values: give it under torch.compile).
        bins: number of equal bins over [0, 1]; the bin of r is min(floor(r * bins), bins - 1).
        fmt: "cxcywh" or "xyxy".
        eps: added to the union, so that two empty boxes give 0.

    Returns:
        IoU (n, N) float32 in [0, 1], higher is more reliable, and histogram
        (n, num_groups, bins) int64. N = 0 gives an empty IoU and zero counts.

    Raises:
        InputError: shapes, formats or groups are wrong, or a coordinate is not finite (the first
            rows are named). Under torch.compile values are not checked: such a row has IoU NaN
            and is in no bin.
        ValueError: dtypes or devices differ.

    Example:
        >>> pred = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.5, 0.5, 0.5, 1.0]])
        >>> iou, hist = box_reliability(pred, torch.tensor([[0.5, 0.5, 1.0, 1.0]] * 2), bins=4)
        >>> iou.tolist(), hist.tolist()
        ([[1.0, 0.5]], [[[0, 0, 1, 1]]])
    """
    from clipvg.ops.box_reliability.op import score_tensors

    return score_tensors(
        pred, target, group=group, num_groups=num_groups, bins=bins, fmt=fmt, eps=eps
    )


def box_reliability_numpy(
    pred: np.ndarray,
    target: np.ndarray,
    *,
    group: np.ndarray | None = None,
    num_groups: int | None = None,
    bins: int = 1000,
    fmt: str = "cxcywh",
    eps: float = EPS,
) -> tuple[np.ndarray, np.ndarray]:
    """`box_reliability` of NumPy arrays, without torch where `clipvg._C` is built.

    Arguments, results (IoU (n, N) float32, histogram (n, num_groups, bins) int64) and errors are
    those of `box_reliability`; boxes may be of any floating dtype, and are computed in float32.
    """
    pred, target = np.asarray(pred), np.asarray(target)
    for boxes in (pred, target):
        if boxes.dtype.kind not in "fiu":
            raise InputError(f"box_reliability: boxes are {boxes.dtype}; expected a floating dtype")
    pred, target = _one_dtype(pred, target)
    pred = pred[None] if pred.ndim == 2 else pred
    if group is not None:
        group = np.asarray(group)
        check_integer(group.dtype.kind in "iub", group.dtype)
        group = group.astype(np.int64)
    if num_groups is None:
        num_groups = 1 if group is None or group.size == 0 else max(int(group.max()) + 1, 1)
    shape = None if group is None else group.shape
    check_numbers(num_groups, bins, eps)
    check_arguments(pred.shape, target.shape, shape, num_groups, bins, fmt, eps)
    if choose("box_reliability", "numpy") == "native":
        module = _native.numpy_module()[0]
        assert module is not None
        iou, hist, _ = module.box_reliability(
            pred,
            target,
            group,
            num_groups=num_groups,
            bins=bins,
            cxcywh=fmt == "cxcywh",
            eps=eps,
            threads=_num_threads(),
        )
    else:
        iou, hist = _reference(pred, target, group, num_groups, bins, fmt, eps)
    if hist.sum() != iou.size:
        raise_bad_rows(iou, group, num_groups)
    return iou, hist


def _one_dtype(pred: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the arrays unchanged if they share a dtype that the kernel reads, else as float32."""
    if pred.dtype == target.dtype and pred.dtype in (np.float32, np.float64, np.float16):
        return pred, target
    with np.errstate(over="ignore"):  # float64 past float32's range is inf, hence rejected by row
        return np.asarray(pred, np.float32), np.asarray(target, np.float32)


def _num_threads() -> int:
    """Return OMP_NUM_THREADS, as for torch, or else the processors that this process may use."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    if re.fullmatch("[1-9][0-9]{0,3}", setting):
        return int(setting)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reference(
    pred: np.ndarray, target: np.ndarray, group: np.ndarray | None, *options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Run the reference implementation, which is defined on tensors and so imports torch."""
    import torch

    from clipvg.ops.box_reliability.op import reference

    groups = None if group is None else torch.tensor(group)
    iou, hist, _ = reference(torch.tensor(pred), torch.tensor(target), groups, *options)
    return iou.numpy(), hist.numpy()
