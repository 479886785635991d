"""Loss of a predicted box: L1 plus generalised IoU, one value per label."""

import torch
from torch import Tensor
from torchvision.ops import box_convert

from clipvg.boxes import EPS
from clipvg.ops.boxes import area, shared_sides, union_area


def box_losses(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the L1 and generalised-IoU loss of each label.

    The L1 term is the sum over the four coordinates, as in the published training code; both
    terms have weight 1 there. The pairing is elementwise: no B x B matrix is formed, and no
    boolean indexing, which would stall a GPU.

    Args:
        pred (Tensor[B, 4]): predicted boxes, cxcywh normalised to the square, any float dtype.
        target (Tensor[B, 4]): boxes to learn, same format; they may reach outside [0, 1].

    Returns:
        (Tensor[B] L1 in [0, inf), Tensor[B] GIoU loss in [0, 2]), float32; lower is better.
        Two empty boxes have IoU 0. B = 0 gives empty tensors.

    Example:
        >>> box = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
        >>> [round(loss.item(), 4) for loss in box_losses(box, box)]
        [0.0, 0.0]
    """
    pred, target = pred.float(), target.float()
    l1 = (pred - target).abs().sum(-1)
    a, b = box_convert(pred, "cxcywh", "xyxy"), box_convert(target, "cxcywh", "xyxy")
    # Gradients are added in the reverse of this order; another order would change results.
    overlap = shared_sides(a, b)  # (B, 2)
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])  # (B, 2)
    intersection = area(overlap.clamp(min=0))  # (B,)
    union = union_area(a, b, intersection)
    enclosing = area(hull)
    giou = intersection / (union + EPS) - (enclosing - union) / (enclosing + EPS)
    return l1, 1 - giou
