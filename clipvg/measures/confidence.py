"""Confidence of one model in the label and in its own prediction."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from clipvg.measures.common.model_measure import ModelMeasure
from clipvg.measures.ensemble import Against, agreement
from clipvg.model.fusion import Features
from clipvg.model.signs import CORNERS, ZOOM, carried_back, move_into_corner
from clipvg.reliability.batch import Batch, Chunk
from clipvg.runtime.fields import ABOVE_ZERO
from clipvg.training.losses import box_losses


class LabelConfidence(ModelMeasure):
    """Likelihood of the label's box under the model.

    r = exp(−(L1 + GIoU loss) / scale), the training loss as an energy: the self-confidence of
    confident learning (Northcutt et al., JAIR 2021) for a model that predicts a box. Unlike IoU, it
    distinguishes between boxes that do not overlap the prediction.

    Args:
        scale: loss at which r = 1/e.
    """

    scale: Annotated[float, (ABOVE_ZERO, None)] = 1.0
    name: str = "likelihood"

    def observe(self, batch: Batch) -> Tensor:
        """Return exp(−loss / scale), (B,)."""
        l1, giou = box_losses(batch.boxes(self.model), batch.target(self.model))
        return torch.exp(-(l1 + giou) / self.scale)


class PredictionConfidence(ModelMeasure):
    """How little the predicted box depends on where and how large the image is shown.

    The image is shrunk to `zoom` of its size and placed in each of K corners of the square; each
    box b_k predicted there is mapped back. against="members": r = mean IoU over all pairs of the K
    boxes and the box of the original image, the model's confidence in its own prediction, whatever
    the label says; against="label": r = mean IoU of these K + 1 boxes with the label's.

    Cost: K + 1 image encodings and passes.

    Args:
        zoom: relative size of the copies, 0.25 to 0.99.
        copies: K, 1 to 4.
        against: "members" or "label".
    """

    zoom: Annotated[float, (0.25, 0.99)] = ZOOM
    copies: Annotated[int, (1, len(CORNERS))] = 2
    against: Against = "members"
    name: str = "confidence"

    def observe(self, batch: Batch) -> Tensor:
        """Return the mean IoU, (B,)."""
        model = self.model
        boxes = [batch.boxes(model)]
        for corner in CORNERS[: self.copies]:
            key = ("copy", id(model), self.zoom, corner)
            features, ignored = batch.chunk.memo.get(
                key, partial(self._encode, batch.chunk, corner)
            )
            used, place = batch.index(model).unique(return_inverse=True)
            given = Features(features[used], ignored[used], *batch.text(model), place)
            boxes.append(carried_back(model.fuse(given).float(), self.zoom, corner))
        return agreement(torch.stack(boxes), batch.target(model), self.against)

    def _encode(self, chunk: Chunk, corner: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return features and ignored patches of the copies in one corner."""
        pixels, mask, _ = chunk.squares(self.model)
        pixels, mask = move_into_corner(pixels, mask, self.zoom, corner)
        features = self.model.encode_images(pixels.to(self.model.device))
        return features, self.model.patch_mask(mask).to(self.model.device)
