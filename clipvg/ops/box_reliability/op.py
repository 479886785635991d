"""The operator `torch.ops.clipvg.box_reliability`: schema, fake kernel and reference.

The reference is the definition. clipvg/_ops registers native kernels for the same operator; without
them the reference runs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clipvg.ops._dispatch import operator_name
from clipvg.ops.box_reliability.checks import (
    SMALL,
    check_arguments,
    check_integer,
    check_numbers,
    raise_bad_rows,
)

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_tensors(
    pred: Tensor,
    target: Tensor,
    group: Tensor | None,
    num_groups: int,
    bins: int,
    fmt: str,
    eps: float,
) -> None:
    """Reject arguments of the wrong shape, dtype or device."""
    groups = None if group is None else tuple(group.shape)
    check_arguments(tuple(pred.shape), tuple(target.shape), groups, num_groups, bins, fmt, eps)
    if pred.dtype not in DTYPES:
        raise ValueError(f"box_reliability: boxes are {pred.dtype}; expected a floating dtype")
    if target.dtype != pred.dtype or target.device != pred.device:
        raise ValueError(
            f"box_reliability: pred is {pred.dtype} on {pred.device} and target {target.dtype} on "
            f"{target.device}; expected one dtype and device"
        )
    if group is not None and (group.dtype != torch.int64 or group.device != pred.device):
        raise ValueError(
            f"box_reliability: group is {group.dtype} on {group.device}; "
            f"expected int64 on {pred.device}"
        )


def _ends(middle: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    return middle - half, middle + half


def _axis(pred: Tensor, target: Tensor, axis: int, fmt: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return sides along one axis: of the intersection, the clamped predictions, the targets."""
    (p1, p2), (t1, t2) = (boxes[..., axis::2].unbind(-1) for boxes in (pred, target))
    origin = torch.zeros_like(t1)
    if fmt == "cxcywh":
        origin = t1.where(t2 < SMALL, 0.0)
        p1, p2 = _ends(p1 - origin, 0.5 * p2)
        t1, t2 = _ends(t1 - origin, 0.5 * t2)
    p1, p2 = (corner.clamp(0.0 - origin, 1.0 - origin) for corner in (p1, p2))
    shared = (torch.minimum(p2, t2) - torch.maximum(p1, t1)).clamp(min=0)
    return shared, p2 - p1, t2 - t1


def _iou(pred: Tensor, target: Tensor, fmt: str, eps: float) -> Tensor:
    """Return the IoU (n, N) of float32 boxes; every kernel keeps this order of operations."""
    width, pred_width, target_width = _axis(pred, target, 0, fmt)
    height, pred_height, target_height = _axis(pred, target, 1, fmt)
    intersection = width * height
    union = pred_width * pred_height + target_width * target_height - intersection
    return intersection / (union + eps)


def reference(
    pred: Tensor,
    target: Tensor,
    group: Tensor | None,
    num_groups: int,
    bins: int,
    fmt: str,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Define the operator: IoU (n, N), histogram (n, num_groups, bins), number of bad rows (n,)."""
    check_tensors(pred, target, group, num_groups, bins, fmt, eps)
    pred, target = pred.float(), target.float()
    iou = _iou(pred, target, fmt, eps)  # (n, N)
    valid = pred.isfinite().all(-1) & target.isfinite().all(-1) & iou.isfinite()
    iou = iou.where(valid, torch.nan)
    num_measurers, cells = pred.shape[0], num_groups * bins
    counted = valid
    cell = (iou.nan_to_num() * bins).floor().long().clamp(0, bins - 1)
    if group is not None:
        counted = valid & (group >= 0) & (group < num_groups)
        cell = cell + group * bins
    cell = cell + cells * torch.arange(num_measurers, device=pred.device)[:, None]
    hist = torch.bincount(cell[counted], minlength=num_measurers * cells)
    return iou, hist.view(num_measurers, num_groups, bins), (~valid).sum(1)


def _fake(
    pred: Tensor,
    target: Tensor,
    group: Tensor | None,
    num_groups: int,
    bins: int,
    fmt: str,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    check_tensors(pred, target, group, num_groups, bins, fmt, eps)
    num_measurers, num_labels, _ = pred.shape
    return (
        pred.new_empty((num_measurers, num_labels), dtype=torch.float32),
        pred.new_empty((num_measurers, num_groups, bins), dtype=torch.int64),
        pred.new_empty((num_measurers,), dtype=torch.int64),
    )


_operator = torch.library.custom_op("clipvg::box_reliability", reference, mutates_args=())
_operator.register_fake(_fake)
# The reference under a name for which no kernel is ever registered; backend("reference") calls it.
# It is an operator rather than the bare function because a compiler that traced into it could
# contract its arithmetic (fused multiply-add).
_unchanged = torch.library.custom_op(
    "clipvg::box_reliability_reference", reference, mutates_args=()
)
_unchanged.register_fake(_fake)


@torch.compiler.assume_constant_result
def _operator_name(device: str) -> str:
    return operator_name("box_reliability", device)


def score_tensors(
    pred: Tensor,
    target: Tensor,
    *,
    group: Tensor | None,
    num_groups: int | None,
    bins: int,
    fmt: str,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Implement `clipvg.ops.box_reliability`."""
    pred, target = pred.detach(), target.detach()
    pred = pred.unsqueeze(0) if pred.dim() == 2 else pred
    if group is not None:
        check_integer(not group.is_floating_point() and not group.is_complex(), group.dtype)
        group = group.to(torch.int64)
    if num_groups is None:
        num_groups = 1 if group is None or group.numel() == 0 else max(int(group.max()) + 1, 1)
    if not torch.compiler.is_compiling():  # numbers are symbols while compiling
        check_numbers(num_groups, bins, eps)
    check_tensors(pred, target, group, num_groups, bins, fmt, eps)
    operator = getattr(torch.ops.clipvg, _operator_name(pred.device.type))
    iou, hist, _ = operator(pred, target, group, num_groups, bins, fmt, eps)
    if not torch.compiler.is_compiling() and int(hist.sum()) != iou.numel():
        groups = None if group is None else group.cpu().numpy()
        raise_bad_rows(iou.cpu().numpy(), groups, num_groups)
    return iou, hist
