"""What a matcher reads: narrow features of patches, tokens, and observed objects as rivals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.boxes import iou
from clipvg.features.texts import padded_tokens
from clipvg.labels import LabelTable
from clipvg.pseudo.meaning import look_at
from clipvg.pseudo.observation import Box
from clipvg.pseudo.observations import ObservationTable

if TYPE_CHECKING:
    from clipvg.model import GroundingModel
    from clipvg.reliability.batch import Batch

_FEATURES = 128  # width that features are brought to


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
    whole, mask = padded_tokens(model, texts, lambda found: _narrow(found.float()))
    real = whole[mask]
    scaled = (whole - real.mean(0)) / real.std(0).clamp(min=1e-6)
    return scaled * mask[..., None], mask


BESIDE = "match.beside"  # column that tells observed boxes from labels
_MOST = 16  # objects of an image
_SHOWN = 0.2  # IoU from which a label may show an object, be it with a box badly placed


def with_observed(labels: LabelTable, observations: ObservationTable) -> LabelTable:
    """Return the labels, and after them a row for each observed object that none of them shows.

    Args:
        labels: N labels.
        observations: of their images, and perhaps of others.

    Returns:
        N labels as they are and M objects; column `BESIDE` tells which row is which.
    """
    names, image_of = labels.distinct_images()
    place = {name: i for i, name in enumerate(names)}
    boxes, order = labels.boxes(), np.argsort(image_of, kind="stable")
    starts = np.searchsorted(image_of[order], np.arange(len(names) + 1))
    found: list[tuple[str, str, Box]] = []
    for observation in observations:
        if (at := place.get(observation.image)) is None:
            continue
        shown = boxes[order[starts[at] : starts[at + 1]]]
        for one in look_at(observation)[:_MOST]:
            if (iou(np.tile(one.box, (len(shown), 1)), shown) < _SHOWN).all():
                found.append((observation.image, one.seen[0].name, one.box))
    if found:
        images, called, corners = zip(*found, strict=True)
        rest = LabelTable.from_columns(
            images=labels.images, image=images, expression=called, box=np.array(corners, np.float32)
        )
        labels = LabelTable.concat([labels, rest])
    return labels.with_column(BESIDE, np.arange(len(labels)) >= len(labels) - len(found))
