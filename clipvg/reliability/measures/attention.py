"""Where [REG] looks: attention mass inside the box, entropy of the attention."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.reliability.measures.batch import Batch
from clipvg.reliability.measures.geometry import patch_coverage
from clipvg.reliability.measures.look import PictureMeasure
from clipvg.reliability.measures.scales import one_of

if TYPE_CHECKING:
    from clipvg.model import GroundingModel

LAYERS = ("last", "all")


def reg_attention(
    model: GroundingModel, tokens: Tensor, position: Tensor, keep: Tensor, *, layers: str = "last"
) -> Tensor:
    """Attention weights of [REG], mean over heads.

    softmax((x_0 + p_0) W_q ((x + p) W_k)ᵀ / √(D / H)) of the first token in a layer, where tokens
    that nothing may attend to have weight 0.

    Args:
        model: the grounding model.
        tokens: (B, S, D), position (S, D) and keep (B, S) as `GroundingModel.sequence` gives them.
        position: see tokens.
        keep: see tokens.
        layers: "last", or the mean over "all" layers.

    Returns:
        Tensor[B, S] float32; each row sums to 1.
    """
    fusion = model.fusion
    last = len(fusion.layers) - 1
    inputs = [tokens, *islice(fusion.states(tokens, position, keep), last)]
    chosen = range(last, last + 1) if layers == "last" else range(last + 1)
    return torch.stack(
        [_layer_attention(fusion.layers[i], inputs[i], position, keep) for i in chosen]
    ).mean(0)


def _layer_attention(layer: Any, x: Tensor, position: Tensor, keep: Tensor) -> Tensor:
    weight, bias = layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias
    width = x.shape[-1]
    placed = x + position
    q = F.linear(placed[:, :1], weight[:width], bias[:width])
    k = F.linear(placed, weight[width : 2 * width], bias[width : 2 * width])
    split = (layer.heads, width // layer.heads)
    q, k = (t.unflatten(-1, split).transpose(1, 2) for t in (q, k))  # (B, H, 1 or S, D / H)
    logits = (q @ k.transpose(-1, -2)).float() / split[1] ** 0.5
    return logits.masked_fill(~keep[:, None, None], -torch.inf).softmax(-1).mean(1)[:, 0]


def patch_attention(batch: Batch, model: GroundingModel, layers: str = "last") -> Tensor:
    """[REG]'s attention over the patches alone, (B, P), rows sum to 1; padding has 0."""

    def compute() -> Tensor:
        patches = model.backbone.grid**2
        weights = reg_attention(model, *batch.sequence(model), layers=layers)[:, -patches:]
        return weights / weights.sum(-1, keepdim=True).clamp(min=1e-30)

    return batch.memo.get(("attention", id(model), layers), compute)


def real_patches(batch: Batch, model: GroundingModel) -> Tensor:
    """Patches that are not padding, (B, P) bool."""
    ignored = batch.chunk.encoded(model)[1]
    return ~ignored[batch.index(model)]


def entropy(shares: Tensor, count: Tensor) -> Tensor:
    """Entropy of distributions (B, P) divided by log of how many values each may take, (B,)."""
    nats = torch.special.entr(shares).sum(-1)
    return torch.where(count > 1, nats / count.clamp(min=2).log(), torch.zeros_like(nats))


class AttentionMass(PictureMeasure):
    """Share of [REG]'s attention over the patches that falls inside the label's box.

    r = Σ_p a_p c_p, with a the attention weights over the patches that are not padding (mean over
    heads, sum 1) and c_p the share of patch p inside the box. A large box holds much of any
    attention: ``adjust=True`` gives r / (r + s), s the share of the patches inside the box, which
    is 0.5 for attention spread evenly.

    Cost: one pass of the model, twice through all but its last fusion layer. Range [0, 1].
    Requires images.

    Args:
        model: the grounding model.
        layers: attention of the "last" fusion layer, or the mean over "all".
        adjust: correct for the size of the box.
        name: name of the score column.
    """

    def __init__(
        self,
        model: GroundingModel,
        *,
        layers: str = "last",
        adjust: bool = False,
        name: str = "attention_mass",
    ) -> None:
        one_of("layers", layers, LAYERS)
        super().__init__([model], name)
        self.layers, self.adjust = layers, adjust

    def look(self, batch: Batch) -> Tensor:
        """Return the mass inside the box, (B,)."""
        (model,) = self.models
        inside = patch_coverage(batch.target(model), model.backbone.grid)
        mass = (patch_attention(batch, model, self.layers) * inside).sum(-1)
        if not self.adjust:
            return mass
        real = real_patches(batch, model)
        share = (inside * real).sum(-1) / real.sum(-1)
        return torch.where(mass > 0, mass / (mass + share), torch.zeros_like(mass))


class AttentionEntropy(PictureMeasure):
    """How narrowly [REG] looks: one minus the normalised entropy of its attention over patches.

    r = 1 + Σ_p a_p log a_p / log P, over the P patches that are not padding: 1 when one patch has
    all attention, 0 when all have the same. It does not see the label's box: it finds expressions
    that the model cannot place, not boxes that are wrong.

    Cost: as `AttentionMass`. Range [0, 1]. Requires images.

    Args:
        model: the grounding model.
        layers: attention of the "last" fusion layer, or the mean over "all".
        name: name of the score column.
    """

    def __init__(
        self, model: GroundingModel, *, layers: str = "last", name: str = "attention_entropy"
    ) -> None:
        one_of("layers", layers, LAYERS)
        super().__init__([model], name)
        self.layers = layers

    def look(self, batch: Batch) -> Tensor:
        """Return one minus the normalised entropy, (B,)."""
        (model,) = self.models
        attention = patch_attention(batch, model, self.layers)
        return 1 - entropy(attention, real_patches(batch, model).sum(-1))
