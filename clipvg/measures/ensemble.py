"""Measures over several models, or several passes of one: agreement, variance, information."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Annotated, Literal

import torch
from torch import Tensor

from clipvg.errors import InputError
from clipvg.measures.attention import batch_attention, patch_coverage, real_patches
from clipvg.measures.common.measure import Measure
from clipvg.measures.common.model_measure import ModelMeasure
from clipvg.model import GroundingModel
from clipvg.model.signs import mean_overlap
from clipvg.ops.boxes import overlap
from clipvg.reliability.batch import Batch
from clipvg.reliability.image_measure import ImageMeasure

Against = Literal["members", "label"]
Over = Literal["attention", "box"]
_SMOOTH = 1e-3  # coverage added to every patch, also outside the box, so that KL is finite


def agreement(boxes: Tensor, target: Tensor, against: Against) -> Tensor:
    """Return the mean IoU (B,) of n boxes (n, B, 4): over all pairs, or with the label's box."""
    if against == "label":
        return overlap(boxes, target[None]).mean(0)
    return mean_overlap(boxes)


def spread(boxes: Tensor) -> Tensor:
    """Return the standard deviation of n boxes (n, B, 4) in sides of their mean box, (B,).

    It is the root mean square of σ_c / s_c over the four coordinates, s = (w, h, w, h) of the mean.
    """
    sides = boxes.mean(0)[:, 2:].clamp(min=1e-6).repeat(1, 2)
    return (boxes.var(0, correction=0) / sides**2).mean(-1).sqrt()


class _Ensemble(ImageMeasure, Measure):
    """A measure that queries several models; those that share towers share the encoding.

    Args:
        models: n >= 2 grounding models.
    """

    models: Sequence[GroundingModel] = field(kw_only=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.models) < 2:
            raise InputError(
                f"measure {self.name!r} compares models and was given {len(self.models)}; give at "
                "least 2."
            )

    @property
    def asks(self) -> tuple[GroundingModel, ...]:
        """The models."""
        return tuple(self.models)

    def boxes(self, batch: Batch) -> Tensor:
        """Return the models' boxes, (n, B, 4), on the device of the first."""
        device = self.models[0].device
        return torch.stack([batch.boxes(model).to(device) for model in self.models])


class Agreement(_Ensemble):
    """Mean IoU among the boxes of an ensemble.

    against="members": r = 2 / (n (n − 1)) Σ_{i<j} IoU(b_i, b_j): how sure the ensemble is, whatever
    the label says. against="label": r = 1/n Σ_i IoU(b_i, b), the mean of the paper's reliability
    over the members. Ensembles as a measure of uncertainty: Lakshminarayanan et al., NeurIPS 2017.

    Args:
        against: "members" or "label".
    """

    against: Against = "members"
    name: str = "agreement"

    def observe(self, batch: Batch) -> Tensor:
        """Return the mean IoU, (B,)."""
        boxes = self.boxes(batch)
        return agreement(boxes, batch.target(self.models[0]).to(boxes.device), self.against)


class Variance(_Ensemble):
    """How little the boxes of an ensemble vary.

    r = exp(−u), u² = mean over (cx, cy, w, h) of Var_i(b_i) / s², s the sides of the mean box:
    u is the members' standard deviation relative to the object's size. It does not see the
    label's box.
    Lakshminarayanan et al., NeurIPS 2017.
    """

    name: str = "variance"

    def observe(self, batch: Batch) -> Tensor:
        """Return exp(−u), (B,)."""
        return torch.exp(-spread(self.boxes(batch)))


class _PlaceMeasure(_Ensemble):
    """A measure of where the members look; subclasses define how their places are compared.

    A place is a member's [REG] attention over the patches in the last layer, or its box spread
    evenly over the patches it covers: none of these measures sees the label's box.

    Args:
        over: "attention" or "box".
    """

    over: Over = "attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        grids = {model.backbone.grid for model in self.models}
        if len(grids) > 1:
            raise InputError(
                f"these models cut images into {sorted(grids)} patches a side; places can be "
                "compared only between models of one grid. Leave the others out."
            )

    def places(self, batch: Batch) -> Tensor:
        """Return each member's distribution over the patches, (n, B, P)."""
        device = self.models[0].device
        if self.over == "attention":
            return torch.stack([batch_attention(batch, m).to(device) for m in self.models])
        covered = []
        for model in self.models:
            coverage = patch_coverage(batch.boxes(model), model.backbone.grid) + _SMOOTH
            coverage = coverage * real_patches(batch, model)
            covered.append((coverage / coverage.sum(-1, keepdim=True)).to(device))
        return torch.stack(covered)


class MutualInformation(_PlaceMeasure):
    """How little the members' places differ: mutual information of place and member.

    I = H(mean_i p_i) − mean_i H(p_i) of the members' distributions p_i over the patches, and
    r = 1 − I / log n: 1 where all members look at the same place, 0 where each looks elsewhere.
    BALD, Houlsby et al., arXiv 1112.5745 (2011).
    """

    name: str = "mutual_information"

    def observe(self, batch: Batch) -> Tensor:
        """Return 1 − I / log n, (B,)."""
        places = self.places(batch)
        own = torch.special.entr(places).sum(-1).mean(0)
        both = torch.special.entr(places.mean(0)).sum(-1)
        return 1 - (both - own) / torch.tensor(float(len(places))).log()


class Divergence(_PlaceMeasure):
    """How little the members' places diverge: Kullback-Leibler divergence between members.

    r = exp(−mean_{i≠j} KL(p_i ‖ p_j)) with the distributions of `MutualInformation`, in nats.
    """

    name: str = "kl"

    def observe(self, batch: Batch) -> Tensor:
        """Return exp(−mean divergence), (B,)."""
        places = self.places(batch)
        logs = places.clamp(min=1e-12).log()
        n = len(places)
        # Σ_{i≠j} Σ_p p_i (log p_i − log p_j), without the n² table of distributions
        total = n * (places * logs).sum((0, 2)) - (places.sum(0) * logs.sum(0)).sum(-1)
        return torch.exp(-total.clamp(min=0) / (n * (n - 1)))


class DropoutAgreement(ModelMeasure):
    """Mean IoU of the boxes that one model gives under dropout.

    against="label": r = 1/T Σ_t IoU(b_t, b); against="members": mean IoU over all pairs of passes.
    Dropout as an approximate posterior: Gal and Ghahramani, ICML 2016.

    Cost: T passes of the fusion encoder; the towers run once. Equal seeds give equal scores for the
    same labels and batch size.

    Args:
        model: a grounding model with dropout above 0.
        passes: number T of passes, at least 2.
        against: "label" or "members".
        seed: seed of the dropout masks.
    """

    passes: Annotated[int, (2, None)] = 8
    against: Against = "label"
    seed: int = 0
    name: str = "mc_dropout"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model.config.dropout > 0:
            raise InputError(
                f"measure {self.name!r} needs dropout, and this model was made with dropout=0: all "
                "its passes are equal. Use an ensemble (agreement) instead."
            )

    def observe(self, batch: Batch) -> Tensor:
        """Return the mean IoU, (B,)."""
        model = self.model
        tokens, position, keep = batch.sequence(model)
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(hash((self.seed, int(batch.rows[0]))) & 0x7FFFFFFF)
            model.fusion.train()
            try:
                states = [model.fusion(tokens, position, keep) for _ in range(self.passes)]
            finally:
                model.fusion.eval()
        boxes = model.head(torch.stack(states)).float()
        return agreement(boxes, batch.target(model), self.against)
