"""Inputs of the matcher: projected patch and token features, and observed objects as rivals."""

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

_FEATURES = 128  # most channels of projected features


def narrow_images(batch: Batch, model: GroundingModel) -> Tensor:
    """Return a chunk's patch features, projected to at most `_FEATURES` channels, (U, C, G, G)."""
    features = batch.chunk.encoded(model)[0][:, 1:].float()
    width = model.backbone.width if model.backbone.visual == "levels" else features.shape[-1]
    features = F.layer_norm(features.unflatten(2, (-1, width)), (width,)).flatten(2)
    narrow = _narrow(features)
    return narrow.transpose(1, 2).unflatten(2, (model.backbone.grid, model.backbone.grid))


def _narrow(features: Tensor) -> Tensor:
    """Project the last dimension to at most `_FEATURES` channels, orthogonally and at random."""
    width = features.shape[-1]
    if width <= _FEATURES:
        return features
    draw = torch.Generator().manual_seed(width)
    basis = torch.linalg.qr(torch.randn(width, _FEATURES, generator=draw))[0]
    return features @ basis.to(features.device)


def whitening(values: Tensor) -> Tensor:
    """Return the matrix (C, C) that gives centred values (R, C) unit variance in all directions.

    It is the symmetric one (ZCA), which is stable: a small change of the values may turn their
    principal axes, but hardly changes the matrix.
    """
    centred = (values - values.mean(0)).double()
    spread, axes = torch.linalg.eigh(centred.T @ centred / len(values))
    least = spread[-1].clamp(min=1e-12) * 1e-6
    return (axes / spread.clamp(min=least).sqrt() @ axes.T).float()


def token_features(model: GroundingModel, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return standardised token features (U, T, C), 0 past the last one, and their mask (U, T)."""
    whole, mask = padded_tokens(model, texts, lambda found: _narrow(found.float()))
    real = whole[mask]
    scaled = (whole - real.mean(0)) / real.std(0).clamp(min=1e-6)
    return scaled * mask[..., None], mask


BESIDE = "match.beside"  # bool column, True for observed objects that are no labels
_MOST = 16  # objects per image
_SHOWN = 0.2  # IoU from which a label may show an object, even with a badly placed box


def with_observed(labels: LabelTable, observations: ObservationTable) -> LabelTable:
    """Return the labels, followed by a row for each observed object that no label shows.

    Args:
        labels: N labels.
        observations: observations of their images, and perhaps of others.

    Returns:
        The N labels unchanged and M objects; column `BESIDE` is True for the objects.
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
