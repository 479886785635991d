"""Effect of a training step on one label: gradient norm and size of the update."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from clipvg.labels import LabelTable
from clipvg.measures.common.model_measure import ModelMeasure
from clipvg.measures.common.scales import halving
from clipvg.ops.boxes import overlap
from clipvg.reliability.batch import Batch
from clipvg.reliability.measurer import Context, Scores
from clipvg.runtime.fields import ABOVE_ZERO
from clipvg.training.losses import box_losses

Loss = Literal["squared", "training"]


def loss_gradient(logits: Tensor, target: Tensor, loss: str = "squared") -> Tensor:
    """Return the gradient of each label's loss with respect to its box logits z, (B, 4).

    Args:
        logits (Tensor[B, 4]): box before the sigmoid.
        target (Tensor[B, 4]): the label's box, cxcywh of the square.
        loss: "squared": half the squared error of the box; "training": L1 + GIoU.
    """
    if loss == "squared":
        box = logits.sigmoid()
        return (box - target) * box * (1 - box)
    with torch.enable_grad():
        leaf = logits.detach().float().requires_grad_()
        l1, giou = box_losses(leaf.sigmoid(), target)
        (gradient,) = torch.autograd.grad((l1 + giou).sum(), leaf)
    return gradient


class GradientNorm(ModelMeasure):
    """How small the loss gradient of a label is at the last layer of the box head.

    g = ‖∂l / ∂(W, c)‖ = ‖∂l/∂z‖ √(‖h‖² + 1) for z = W h + c, in closed form; r = 2^(−g / scale).
    This is the GraNd score of Paul et al., NeurIPS 2021, at the last layer. l is half the squared
    error of the box, whose gradient shrinks with the error, as a classifier's does. With "training"
    it is L1 + GIoU, whose gradient does not: L1 pulls with the same force from any distance and
    GIoU most where the boxes nearly match, so right labels may have the larger gradient.

    No backward pass through the model is needed. Early checkpoints are more informative than
    converged ones.

    Args:
        loss: "squared" or "training".
        scale: norm at which r = 0.5; None uses the median over the labels.
    """

    loss: Loss = "squared"
    scale: Annotated[float | None, (ABOVE_ZERO, None)] = None
    name: str = "gradient_norm"

    def observe(self, batch: Batch) -> Tensor:
        """Return the norm of the gradient, (B,)."""
        model = self.model
        hidden = model.head.hidden(batch.state(model))
        logits = model.head.layers[-1](hidden)
        gradient = loss_gradient(logits, batch.target(model), self.loss)
        return gradient.norm(dim=1) * (hidden.square().sum(1) + 1).sqrt()

    def score(self, observed: np.ndarray, labels: LabelTable, context: Context) -> Scores:
        """Return 2^(−norm / scale)."""
        return Scores(halving(observed[:, 0], self.scale))


class UpdateSize(ModelMeasure):
    """How little a step on this label alone would move the model's box.

    The box logits z take one gradient step, z' = z − step ∂l/∂z, which is to first order the effect
    of a step on the last layer; r = IoU(σ(z), σ(z')): 1 where the label does not move the box. l is
    as in `GradientNorm`.

    Args:
        loss: "squared" or "training".
        step: size of the step in multiples of the gradient.
    """

    loss: Loss = "squared"
    step: Annotated[float, (ABOVE_ZERO, None)] = 5.0
    name: str = "update_size"

    def observe(self, batch: Batch) -> Tensor:
        """Return the IoU of the boxes before and after the step, (B,)."""
        model = self.model
        logits = model.head.logits(batch.state(model)).float()
        moved = logits - self.step * loss_gradient(logits, batch.target(model), self.loss)
        return overlap(logits.sigmoid(), moved.sigmoid())
