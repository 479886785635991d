"""Attention of the [REG] token over the patches, also as maps of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.data.inputs import ImageInput
from clipvg.model.fusion import Features
from clipvg.model.predict import refuse_blank, see, square_of, texts_of

if TYPE_CHECKING:
    from clipvg.model.grounder import GroundingModel

_AT_ONCE = 32  # expressions


def patch_attention(
    model: GroundingModel, sequence: tuple[Tensor, Tensor, Tensor], *, last_only: bool = True
) -> Tensor:
    """Return the attention of [REG] over the patches, (B, P); rows sum to 1, padding has 0."""
    found = model.fusion.reg_attention(*sequence, last_only=last_only)
    weights = found.mean(0)[:, -(model.backbone.grid**2) :]
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-30)


def attention_maps(model: GroundingModel, image: ImageInput, texts: Sequence[str]) -> np.ndarray:
    """Return the attention maps of [REG] on an image; see `GroundingModel.attention`."""
    refuse_blank(texts)
    square = square_of(image, model=model)
    (x, y), (width, height) = square.box.offset, square.box.resized
    side, size, found = model.backbone.grid, square.box.size, [torch.zeros(0, height, width)]
    seen = see(model, [square], scores=False)
    for start in range(0, len(texts), _AT_ONCE):
        features, mask = texts_of(model, list(texts[start : start + _AT_ONCE]))
        index = torch.zeros(len(mask), dtype=torch.int64, device=mask.device)
        given = Features(seen.features, seen.ignored, features, mask, index)
        shares = patch_attention(model, model.sequence(given)).float()  # (B, P)
        squares = F.interpolate(shares.unflatten(1, (1, side, side)), size, mode="bilinear")[:, 0]
        maps = squares[:, y : y + height, x : x + width]
        found.append((maps / maps.sum((1, 2), keepdim=True)).cpu())
    return torch.cat(found).numpy()
