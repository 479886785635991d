"""Batches of augmented images through the frozen towers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clipvg.features.cache import FeatureBatch
from clipvg.model.fast.towers import can_pack, encode_texts
from clipvg.model.tokenizer import real_lengths
from clipvg.ops.linear import fast_cpu

if TYPE_CHECKING:
    from clipvg.data.dataset import Batch
    from clipvg.model.grounder import GroundingModel


class Encoder:
    """Encodes each distinct image and each real text token of a batch once, without gradients.

    Args:
        model: with a frozen image tower.
        dtype: number type of the towers; None leaves them as they are. They are converted once,
            where autocast would convert all their weights in every step.
    """

    def __init__(self, model: GroundingModel, dtype: torch.dtype | None = None) -> None:
        self._model = model
        self._towers = model.backbone
        if dtype is not None:
            self._towers = copy.deepcopy(model.backbone).to(dtype)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> FeatureBatch:
        """Return the features of a batch; text stays token ids where the text tower learns."""
        with fast_cpu():
            return self._features(batch)

    def _features(self, batch: Batch) -> FeatureBatch:
        model, towers = self._model, self._towers
        length = max(1, int(real_lengths(batch.text_mask).max()))
        tokens, mask = batch.tokens[:, :length], batch.text_mask[:, :length]
        return FeatureBatch(
            towers.image_features(batch.images.to(towers.clip.visual.conv1.weight.dtype)),
            model.patch_mask(batch.pixel_mask),
            batch.image_index,
            self._texts(tokens, mask) if model.frozen_text else tokens,
            mask,
            batch.target,
            batch.row,
        )

    def _texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return text features (B, T, E); on a CPU zero after the last real token."""
        if tokens.device.type != "cpu" or not can_pack(self._towers):
            return self._towers.text_features(tokens)
        lengths = real_lengths(mask).clamp(min=1)
        found = encode_texts(self._towers, tokens, lengths, packed=True)
        padded = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
        return torch.nn.functional.pad(padded, (0, 0, 0, tokens.shape[1] - padded.shape[1]))
