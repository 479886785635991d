"""How sure one model is: of the label, and of its own answer."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.measures.common.model_measure import ModelMeasure
from clipvg.measures.common.options import inside, one_of, positive
from clipvg.measures.ensemble import AGAINST, agreement
from clipvg.model.fusion import Features
from clipvg.reliability.batch import Batch, Chunk
from clipvg.training.losses import box_losses

# Corner that the smaller copy of the image goes to: (x, y) in {0, 1}.
_CORNERS = ((0, 0), (1, 1), (1, 0), (0, 1))


class LabelConfidence(ModelMeasure):
    """Likelihood of the label's box under the model.

    r = exp(−(L1 + GIoU loss) / scale), the training loss as an energy: the self-confidence of
    confident learning (Northcutt et al., JAIR 2021) for a model that gives a box. Unlike IoU it
    tells boxes apart that do not overlap the answer.

    Args:
        scale: loss at which r = 1/e.
    """

    scale: float = positive(1.0)
    name: str = "likelihood"

    def observe(self, batch: Batch) -> Tensor:
        """Return exp(−loss / scale), (B,)."""
        l1, giou = box_losses(batch.boxes(self.model), batch.target(self.model))
        return torch.exp(-(l1 + giou) / self.scale)


class PredictionConfidence(ModelMeasure):
    """How little the model's answer depends on where and how large the image is shown.

    The image is shrunk to `zoom` of its size and put into each of K corners of the square; each
    box b_k found there is carried back. against="members": r = mean IoU over all pairs of the K
    boxes and the box of the image as it is, the model's confidence in its own answer, whatever
    the label says; against="label": r = mean IoU of these K + 1 boxes with the label's.

    Cost: K + 1 image encodings and passes.

    Args:
        zoom: size of the copies, 0.25 to 0.99.
        copies: K, 1 to 4.
        against: "members" or "label".
    """

    zoom: float = inside(0.875, 0.25, 0.99)
    copies: int = inside(2, 1, len(_CORNERS))
    against: str = one_of("members", AGAINST)
    name: str = "confidence"

    def observe(self, batch: Batch) -> Tensor:
        """Return the mean IoU, (B,)."""
        model = self.model
        boxes = [batch.boxes(model)]
        for corner in _CORNERS[: self.copies]:
            key = ("copy", id(model), self.zoom, corner)
            features, ignored = batch.chunk.memo.get(
                key, partial(self._encode, batch.chunk, corner)
            )
            used, place = batch.index(model).unique(return_inverse=True)
            given = Features(features[used], ignored[used], *batch.text(model), place)
            found = model.fuse(given).float()
            moved = torch.tensor(corner, device=found.device) * (1 - self.zoom)
            boxes.append(torch.cat([found[:, :2] - moved, found[:, 2:]], dim=1) / self.zoom)
        return agreement(torch.stack(boxes), batch.target(model), self.against)

    def _encode(self, chunk: Chunk, corner: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Features and ignored patches of the copies in one corner."""
        pixels, mask, _ = chunk.squares(self.model)
        pixels, mask = move_into_corner(pixels, mask, self.zoom, corner)
        features = self.model.encode_images(pixels.to(self.model.device))
        return features, self.model.patch_mask(mask).to(self.model.device)


def move_into_corner(
    pixels: Tensor, mask: Tensor, zoom: float, corner: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Shrink squares and put them into a corner of the square.

    Args:
        pixels: (U, 3, S, S), zero where there is padding.
        mask: (U, S, S) bool, True where there is padding.
        zoom: size of the copy.
        corner: (0, 0) top left, (1, 0) top right, (0, 1) bottom left, (1, 1) bottom right.

    Returns:
        Pixels and mask of the same shapes; around the copy there is padding.
    """
    # affine_grid maps output to input coordinates in [-1, 1]: in = out / zoom + shift
    shift = [(1 - 2 * side) * (1 / zoom - 1) for side in corner]
    matrix = torch.tensor([[1 / zoom, 0, shift[0]], [0, 1 / zoom, shift[1]]])
    grid = F.affine_grid(
        matrix.expand(len(pixels), -1, -1), list(pixels.shape), align_corners=False
    )
    shown = (~mask).float()[:, None]
    shown = F.grid_sample(shown, grid, mode="nearest", align_corners=False)
    smaller = F.grid_sample(pixels, grid, mode="bilinear", align_corners=False)
    return smaller * shown, shown[:, 0] < 0.5
