"""What a matcher of regions and words reads: narrow features of boxes, displaced boxes, tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.features.texts import TextStore
from clipvg.ops.boxes import overlap

if TYPE_CHECKING:
    from clipvg.model import GroundingModel
    from clipvg.reliability.batch import Batch

APART = 0.5  # IoU below which two boxes are two answers
BINS = 3  # a side; a box's features are read in a raster over a box 1.4 times as wide and high
DISPLACED = 2  # displaced boxes of a label
_WIDER = 1.4
_FEATURES = 128  # width that features are brought to
_MOST_TOKENS = 48
_TEXTS_AT_ONCE = 4_096


def narrow_images(batch: Batch, model: GroundingModel) -> Tensor:
    """Patches of a chunk's images brought to `_FEATURES` channels, (U, C, G, G)."""
    features = batch.chunk.encoded(model)[0][:, 1:].float()
    width = model.backbone.width if model.backbone.visual == "levels" else features.shape[-1]
    features = F.layer_norm(features.unflatten(2, (-1, width)), (width,)).flatten(2)
    narrow = _narrow(features)
    return narrow.transpose(1, 2).unflatten(2, (model.backbone.grid, model.backbone.grid))


def _narrow(features: Tensor) -> Tensor:
    """Random orthogonal projection of the last dimension to at most `_FEATURES` channels."""
    width = features.shape[-1]
    if width <= _FEATURES:
        return features
    draw = torch.Generator().manual_seed(width)
    basis = torch.linalg.qr(torch.randn(width, _FEATURES, generator=draw))[0]
    return features @ basis.to(features.device)


def displaced(boxes: Tensor, rows: np.ndarray, seed: int) -> Tensor:
    """Boxes (B, 4) cxcywh and two displaced ones each, (B, 3, 4); a row's are always the same."""
    tries = 8
    drawn = [np.random.default_rng((seed, int(row))) for row in rows]
    spread = np.stack([draw.uniform(0.15, 0.65, (DISPLACED, tries, 1)) for draw in drawn])
    noise = np.stack([draw.normal(size=(DISPLACED, tries, 4)) for draw in drawn]) * spread
    moved = torch.from_numpy(noise.astype(np.float32))  # (B, views, tries, 4)
    own = boxes[:, None, None]
    centre = own[..., :2] + moved[..., :2] * own[..., 2:]
    sides = own[..., 2:] * moved[..., 2:].exp()
    low, high = (centre - sides / 2).clamp(0, 1), (centre + sides / 2).clamp(0, 1)
    made = torch.cat([(low + high) / 2, (high - low).clamp(min=0.02)], dim=-1)
    apart = overlap(made, own.expand_as(made)) < APART
    apart[..., -1] = True  # where none is, the last
    first = apart.int().argmax(2)
    chosen = made.gather(2, first[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
    return torch.cat([boxes[:, None], chosen], dim=1)


def bin_features(features: Tensor, boxes: Tensor) -> Tensor:
    """Features (B, C, G, G) at the bins of boxes (B, V, 4), bilinear: (B, V, bins, C)."""
    steps = ((torch.arange(BINS, device=boxes.device) + 0.5) / BINS - 0.5) * _WIDER
    x = boxes[..., 0, None] + steps * boxes[..., 2, None]  # (B, V, bins per side)
    y = boxes[..., 1, None] + steps * boxes[..., 3, None]
    shape = (*x.shape, BINS)
    places = torch.stack([x[:, :, None].expand(shape), y[..., None].expand(shape)], dim=-1)
    places = places.flatten(1, 2) * 2 - 1  # (B, V * bins per side, bins per side, 2)
    found = F.grid_sample(features, places, padding_mode="border", align_corners=False)
    return found.flatten(2).unflatten(2, (boxes.shape[1], -1)).permute(0, 2, 3, 1)


def whitening(values: Tensor) -> Tensor:
    """The map (C, C) that gives values (R, C), less their mean, deviation 1 in all directions.

    It is the symmetric one: it hardly changes where the values hardly do, though their axes may.
    """
    centred = (values - values.mean(0)).double()
    spread, axes = torch.linalg.eigh(centred.T @ centred / len(values))
    least = spread[-1].clamp(min=1e-12) * 1e-6
    return (axes / spread.clamp(min=least).sqrt() @ axes.T).float()


def token_features(model: GroundingModel, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Features of the texts' tokens, (U, T, C) with zeros past the last, and their mask (U, T)."""
    features, masks = [], []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = texts[start : start + _TEXTS_AT_ONCE]
        store = TextStore(model, torch.device("cpu"))
        store.cover(part)
        found, mask = store.take(torch.from_numpy(store.indices(part)))
        if not found.is_floating_point():  # a text tower that learns
            with torch.no_grad():
                found = model.encode_text(found.to(model.device)).cpu()
        features.append(_narrow(found.float())[:, :_MOST_TOKENS])
        masks.append(mask[:, :_MOST_TOKENS])
    longest = max(mask.shape[1] for mask in masks)
    whole = torch.cat([F.pad(part, (0, 0, 0, longest - part.shape[1])) for part in features])
    mask = torch.cat([F.pad(part, (0, longest - part.shape[1])) for part in masks])
    real = whole[mask]
    scaled = (whole - real.mean(0)) / real.std(0).clamp(min=1e-6)
    return scaled * mask[..., None], mask
