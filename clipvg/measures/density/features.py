"""Features of labels, for measures that compare labels with one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.measures.attention import real_patches
from clipvg.measures.common.geometry import patch_coverage

if TYPE_CHECKING:
    from clipvg.model import GroundingModel
    from clipvg.reliability.batch import Batch

KINDS = ("joint", "label", "region", "text", "image")


def label_features(batch: Batch, model: GroundingModel, kind: str) -> Tensor:
    """Features of a batch of labels.

    Args:
        batch: B labels.
        model: the grounding model.
        kind: "joint": state of [REG], image and expression but not the box; "region": mean of the
            last tapped level's patches inside the label's box; "text": text token at the end of
            the expression; "image": [CLS] of the last tapped level; "label": region and text, each
            of length 1, side by side.

    Returns:
        Tensor[B, K] float32; of length 1 except "joint".
    """
    if kind == "joint":
        return batch.state(model)
    if kind == "text":
        features, mask = batch.text(model)
        places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        last = (mask * places).amax(1).clamp(min=1) - 1
        return F.normalize(
            features[torch.arange(len(last), device=last.device), last].float(), dim=1
        )
    width = model.backbone.width if model.backbone.visual == "levels" else None
    features = batch.chunk.encoded(model)[0][batch.index(model)]  # (B, 1 + P, F)
    features = features.float() if width is None else features[..., -width:].float()
    if kind == "image":
        return F.normalize(features[:, 0], dim=1)
    share = patch_coverage(batch.target(model), model.backbone.grid) * real_patches(batch, model)
    region = F.normalize(torch.einsum("bp,bpf->bf", share, features[:, 1:]), dim=1)
    if kind == "region":
        return region
    return torch.cat([region, label_features(batch, model, "text")], dim=1)
