"""How sure an answer is: P(the box is right), P(it is there), and which box an expression means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipvg.model.matcher import BINS, Matcher, bin_features

QUALITY, PRESENT, MEANT = range(3)  # what is judged
_SIGNS = 4  # logits that a judgement weighs: of the matcher, two of [REG], of image and text


class QualityHead(nn.Module):
    """Judges answers of a model that stays as it is.

    Four signs are weighed: a matcher's logit that the words are found in the box (from the
    projected tokens that the fusion encoder reads too), two logits that a perceptron reads from
    [REG], whether the box is right and whether anything fits, and CLIP's own logit that the image
    shows what is said (`clipvg.model.image_text`). The weights are calibrated, see
    `clipvg.training.quality`.

    It stays in float32 whatever becomes of the model: it is small, and probabilities near 0 are not
    for half precision.
    """

    centre: Tensor
    deviation: Tensor
    weights: Tensor
    biases: Tensor

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.matcher = Matcher(width, width, BINS**2, hidden)
        self.reader = nn.Sequential(
            nn.Linear(width, 2 * hidden), nn.ReLU(), nn.Dropout(0.3), nn.Linear(2 * hidden, 2)
        )
        # of regions, words and [REG], which are read with mean 0 and deviation 1
        self.register_buffer("centre", torch.zeros(3, width))
        self.register_buffer("deviation", torch.ones(3, width))
        self.register_buffer("weights", torch.zeros(3, _SIGNS))  # by what is judged
        self.register_buffer("biases", torch.zeros(3))
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode whatever `mode` says."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        return super()._apply(lambda tensor: fn(tensor).to(tensor.dtype), recurse)

    def standard(self, values: Tensor, what: int) -> Tensor:
        """Return regions (0), words (1) or [REG] (2) of any shape (..., D), standardised."""
        return (values.float() - self.centre[what]) / self.deviation[what]

    def regions(self, patches: Tensor, boxes: Tensor) -> Tensor:
        """Return what the matcher sees in boxes.

        Args:
            patches: (B, G * G, D) projected patches of each box's image.
            boxes: (B, V, 4) cxcywh of the square.

        Returns:
            (B, V, bins, D) float32.
        """
        side = round(patches.shape[1] ** 0.5)
        grid = patches.float().mT.unflatten(2, (side, side))  # (B, D, G, G)
        return self.standard(bin_features(grid, boxes), 0)

    def words(self, text: Tensor, mask: Tensor) -> Tensor:
        """Return projected text tokens (B, T, D) as the matcher reads them; zero where masked."""
        return self.standard(text, 1) * mask[..., None]

    def signs(
        self,
        state: Tensor,
        boxes: Tensor,
        patches: Tensor,
        words: tuple[Tensor, Tensor],
        shown: Tensor,
    ) -> Tensor:
        """Return the four logits of B answers, (B, 4) float32.

        Args:
            state: (B, D) [REG] after the last fusion layer.
            boxes: (B, 4) cxcywh of the square: the answers, or any other boxes.
            patches: (B, G * G, D) projected patches of each answer's image.
            words: projected text tokens (B, T, D), and their mask (B, T), True for a real one.
            shown: (B,) from `clipvg.model.image_text`.
        """
        boxes, (text, mask) = boxes.float(), words
        region = self.regions(patches, boxes[:, None])[:, 0]
        match = self.matcher(boxes, region, self.words(text, mask), mask)
        read = self.reader(self.standard(state, 2))
        return torch.cat([match[:, None], read, shown[:, None].float()], dim=1)

    def judge(self, signs: Tensor, what: int) -> Tensor:
        """Return the probability (B,) of `QUALITY`, `PRESENT` or `MEANT` by signs (B, 4)."""
        return F.linear(signs, self.weights[what, None], self.biases[what, None])[:, 0].sigmoid()
