"""Batches of pictures through the frozen towers."""

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clipvg.model.fast.text import can_pack, packed_text_features
from clipvg.ops.linear import fast_cpu
from clipvg.training.config import Amp
from clipvg.training.features import FeatureBatch
from clipvg.training.texts import real_lengths

if TYPE_CHECKING:
    from clipvg.data.dataset import Batch
    from clipvg.model.grounder import GroundingModel


class Encoder:
    """Encodes each distinct picture and each real text token of a batch once, without gradients.

    With bf16 the towers are copied in that type once, where autocast would convert all their
    weights in every step.

    Args:
        model: with a frozen image tower.
        amp: precision of the training.
    """

    def __init__(self, model: "GroundingModel", amp: Amp) -> None:
        self._model, self._towers = model, model.backbone
        if amp == "bf16":
            self._towers = copy.deepcopy(model.backbone).to(torch.bfloat16)

    @torch.no_grad()
    def __call__(self, batch: "Batch") -> FeatureBatch:
        """Features of a batch; text stays token ids where the text tower learns."""
        with fast_cpu():
            return self._features(batch)

    def _features(self, batch: "Batch") -> FeatureBatch:
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
        """Text features (B, T, E); zero after the last real token."""
        if tokens.device.type != "cpu" or not can_pack(self._towers):
            return self._towers.text_features(tokens)
        lengths = real_lengths(mask).clamp(min=1)
        order = lengths.argsort(stable=True).tolist()
        texts = [tokens[row, : int(lengths[row])] for row in order]
        features = packed_text_features(self._towers, texts)
        padded = features[0].new_zeros(*tokens.shape, features[0].shape[-1])
        for row, feature in zip(order, features, strict=True):
            padded[row, : len(feature)] = feature
        return padded
