"""Measures of [REG]'s attention: its mass inside the label's box, and its entropy."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import box_convert

from clipvg.measures.common.model_measure import ModelMeasure
from clipvg.model import GroundingModel
from clipvg.model.attention import patch_attention
from clipvg.reliability.batch import Batch

Layers = Literal["last", "all"]


def batch_attention(batch: Batch, model: GroundingModel, layers: str = "last") -> Tensor:
    """Return [REG]'s attention over the patches, (B, P): rows sum to 1, padding has 0."""
    return batch.memo.get(
        ("attention", id(model), layers),
        lambda: patch_attention(model, batch.sequence(model), last_only=layers == "last"),
    )


def patch_coverage(boxes: Tensor, grid: int) -> Tensor:
    """Return the share of each patch that lies inside a box.

    Args:
        boxes (Tensor[B, 4]): cxcywh in sides of the square.
        grid: patches per side.

    Returns:
        Tensor[B, P] in [0, 1], patches row by row.
    """
    corners = box_convert(boxes, "cxcywh", "xyxy") * grid  # (B, 4) in patches
    first = torch.arange(grid, device=boxes.device, dtype=boxes.dtype)
    low, high = corners[:, :2, None], corners[:, 2:, None]
    share = (torch.minimum(high, first + 1) - torch.maximum(low, first)).clamp(0, 1)  # (B, 2, G)
    return (share[:, 1, :, None] * share[:, 0, None, :]).flatten(1)


def real_patches(batch: Batch, model: GroundingModel) -> Tensor:
    """Return which patches are not padding, (B, P) bool."""
    ignored = batch.chunk.encoded(model)[1]
    return ~ignored[batch.index(model)]


def entropy(shares: Tensor, count: Tensor) -> Tensor:
    """Return the entropy of distributions (B, P), divided by log(count), (B,); 0 if count is 1."""
    nats = torch.special.entr(shares).sum(-1)
    return torch.where(count > 1, nats / count.clamp(min=2).log(), torch.zeros_like(nats))


class AttentionMass(ModelMeasure):
    """Share of [REG]'s attention over the patches that falls inside the label's box.

    r = Σ_p a_p c_p, with a the attention weights over the patches that are not padding (mean over
    heads, sum 1) and c_p the share of patch p inside the box. A large box collects much of any
    attention, so ``adjust=True`` gives r / (r + s), s the share of the patches inside the box,
    which is 0.5 for evenly spread attention.

    Cost: one pass of the model, twice through all but its last fusion layer.

    Args:
        layers: attention of the "last" fusion layer, or the mean over "all".
        adjust: correct for the size of the box.
    """

    layers: Layers = "last"
    adjust: bool = False
    name: str = "attention_mass"

    def observe(self, batch: Batch) -> Tensor:
        """Return the mass inside the box, (B,)."""
        inside = patch_coverage(batch.target(self.model), self.model.backbone.grid)
        mass = (batch_attention(batch, self.model, self.layers) * inside).sum(-1)
        if not self.adjust:
            return mass
        real = real_patches(batch, self.model)
        share = (inside * real).sum(-1) / real.sum(-1)
        return torch.where(mass > 0, mass / (mass + share), torch.zeros_like(mass))


class AttentionEntropy(ModelMeasure):
    """How narrowly [REG] looks: one minus the normalised entropy of its attention over patches.

    r = 1 + Σ_p a_p log a_p / log P, over the P patches that are not padding: 1 when one patch has
    all attention, 0 when all have the same. It does not see the label's box: it finds expressions
    that the model cannot place, not boxes that are wrong.

    Args:
        layers: attention of the "last" fusion layer, or the mean over "all".
    """

    layers: Layers = "last"
    name: str = "attention_entropy"

    def observe(self, batch: Batch) -> Tensor:
        """Return one minus the normalised entropy, (B,)."""
        attention = batch_attention(batch, self.model, self.layers)
        return 1 - entropy(attention, real_patches(batch, self.model).sum(-1))
