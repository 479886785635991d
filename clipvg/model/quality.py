"""The quality head: P(the box is right), P(the object is present), P(an expression means a box)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BINS = 3  # per side of the grid at which a box's features are sampled
_WIDER = 1.4  # side of that grid relative to the box
_WAVES = (0.5, 1.0, 2.0, 4.0)  # half periods per square of the sinusoids of box coordinates
_CERTAIN = 1e-5  # log P of a pair stays below minus this, so that its logit is finite
QUALITY, PRESENT, MEANT = range(3)  # the judgements
_SIGNS = 4  # logits that a judgement weighs: the matcher's, two from [REG], image against text


class Matcher(nn.Module):
    """Estimates the probability that a box shows all words of an expression.

    Each token attends to the bins of the box; what it finds there, and the box's position, give the
    probability that the token matches. The probability of the pair is the product over its tokens.
    """

    heads = 4

    def __init__(self, region: int, text: int, bins: int, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.bin, self.value = nn.Linear(region, width), nn.Linear(width, width)
        self.bin_place = nn.Parameter(torch.randn(bins, width) * 0.1)
        self.ask, self.token = nn.Linear(text, width), nn.Linear(text, width)
        self.place = nn.Sequential(
            nn.Linear(4 + 8 * len(_WAVES), width), nn.ReLU(), nn.Linear(width, width)
        )
        last = nn.Linear(width, 1)
        # most tokens match: starting from 1/2 each, a dozen would give far too small a product
        nn.init.constant_(last.bias, 2.0)
        self.met = nn.Sequential(nn.Linear(4 * width, width), nn.ReLU(), nn.Dropout(dropout), last)

    def forward(self, box: Tensor, region: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Return the logit (B,) of each pair of a box and a text."""
        bins = F.relu(self.bin(region) + self.bin_place)
        found = F.scaled_dot_product_attention(
            self._split(self.ask(text)), self._split(bins), self._split(self.value(bins))
        )
        pair, token = mask.nonzero(as_tuple=True)
        seen = found.transpose(1, 2).flatten(2)[pair, token]
        said, place = self.token(text[pair, token]), self.place(_waves(box))[pair]
        states = torch.cat([said, seen * said, seen + place, place * said], dim=1)
        each = F.logsigmoid(self.met(states)[:, 0])
        all_met = each.new_zeros(box.shape[0]).index_add(0, pair, each).clamp(max=-_CERTAIN)
        return all_met - torch.log(-torch.expm1(all_met))

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(2, (self.heads, -1)).transpose(1, 2)


def bin_features(features: Tensor, boxes: Tensor) -> Tensor:
    """Sample features (B, C, G, G) bilinearly at the bins of boxes (B, V, 4): (B, V, bins, C)."""
    steps = ((torch.arange(BINS, device=boxes.device) + 0.5) / BINS - 0.5) * _WIDER
    x = boxes[..., 0, None] + steps * boxes[..., 2, None]  # (B, V, bins per side)
    y = boxes[..., 1, None] + steps * boxes[..., 3, None]
    shape = (*x.shape, BINS)
    places = torch.stack([x[:, :, None].expand(shape), y[..., None].expand(shape)], dim=-1)
    places = places.flatten(1, 2) * 2 - 1  # (B, V * bins per side, bins per side, 2)
    found = F.grid_sample(features, places, padding_mode="border", align_corners=False)
    return found.flatten(2).unflatten(2, (boxes.shape[1], -1)).permute(0, 2, 3, 1)


class QualityHead(nn.Module):
    """Judges a model's answers without changing the model.

    It weighs four signs: the matcher's logit that the box shows the words (from the projected
    tokens that the fusion encoder reads too), two logits that a perceptron reads from [REG], that
    the box is right and that anything fits, and CLIP's own logit that the image shows what is
    described (`clipvg.model.signs`). The weights are calibrated, see `clipvg.training.quality`.

    It stays in float32 when the model is converted: it is small, and half precision is too coarse
    for probabilities near 0.
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
        # of regions, words and [REG], to standardise them to mean 0 and deviation 1
        self.register_buffer("centre", torch.zeros(3, width))
        self.register_buffer("deviation", torch.ones(3, width))
        self.register_buffer("weights", torch.zeros(3, _SIGNS))  # a row per judgement
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
        """Return the standardised features of boxes, which the matcher reads.

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
        """Standardise projected text tokens (B, T, D) for the matcher; masked ones become 0."""
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
            shown: (B,) from `clipvg.model.signs.shown_in`.
        """
        boxes, (text, mask) = boxes.float(), words
        region = self.regions(patches, boxes[:, None])[:, 0]
        match = self.matcher(boxes, region, self.words(text, mask), mask)
        read = self.reader(self.standard(state, 2))
        return torch.cat([match[:, None], read, shown[:, None].float()], dim=1)

    def judge(self, signs: Tensor, what: int) -> Tensor:
        """Return the probability (B,) of `QUALITY`, `PRESENT` or `MEANT` from signs (B, 4)."""
        return F.linear(signs, self.weights[what, None], self.biases[what, None])[:, 0].sigmoid()


def _waves(boxes: Tensor) -> Tensor:
    """Concatenate boxes (N, 4) and sinusoids of their coordinates."""
    angles = torch.cat([boxes * wave * torch.pi for wave in _WAVES], dim=1)
    return torch.cat([boxes, angles.sin(), angles.cos()], dim=1)
