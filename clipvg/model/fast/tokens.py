"""Input tokens of fusion encoders: each is projected once, however many sequences contain it.

Shapes: n models, V tokens of all texts or images, T tokens of a batch's sequences, B sequences, D
width; E channels of text features, W of a level of image features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from clipvg.model.fast.fusion import PackedFusion, Sequences, apart, joined, linears, stacked, taken
from clipvg.model.fusion import Features
from clipvg.ops import multilevel_projection
from clipvg.ops.linear import linear

if TYPE_CHECKING:
    from clipvg.model.grounder import GroundingModel


@dataclass(frozen=True)
class TextTokens:
    """Text tokens of U expressions, packed end to end."""

    features: Tensor  # (V, E) features
    starts: np.ndarray  # (U + 1,) int64, where each expression's tokens begin
    token: Tensor  # (V,) int64, position of each token in its text
    keep: Tensor  # (V,) bool, False for tokens that nothing may attend to; all True when packed


@dataclass(frozen=True)
class VisualTokens:
    """Visual tokens of U images, image after image, from each image tower."""

    # for each image tower, a list of (R, W) features by level: all tokens
    levels: list[list[Tensor]]
    row: Tensor  # (V,) int64, the rows of the levels that are used
    starts: np.ndarray  # (U + 1,) int64, where each image's tokens begin
    token: Tensor  # (V,) int64, position of each token in its image: 0 is [CLS], 1 + p patch p
    keep: Tensor  # (V,) bool, False for tokens that nothing may attend to; all True when packed


class FastModels:
    """All that follows the towers in n models of one architecture, as one stack of weights.

    A single model's weights are not copied, so that it can be trained.
    """

    def __init__(
        self,
        models: Sequence[GroundingModel],
        dtype: torch.dtype | None = None,
        *,
        drops: bool = False,
    ) -> None:
        self.reg = stacked((model.reg_token.weight for model in models), dtype)  # (n, 1, D)
        self.position = stacked((model.position.weight for model in models), dtype)
        self.text = linears([model.text_projection for model in models], dtype)
        self.visual = linears([model.visual_projection for model in models], dtype)
        self.fusion = PackedFusion([model.fusion for model in models], dtype, drops=drops)
        self.heads = [model.head for model in models]
        self.text_length = models[0].backbone.context_length

    def project_visual(self, levels: Sequence[Sequence[Tensor]], row: Tensor) -> Tensor:
        """Project rows (V,) of the levels (R, W) of each model's image tower to (n, V, D)."""
        maps = zip(levels, apart(self.visual.weight), apart(self.visual.bias), strict=True)
        return joined([_project(own, row, weight, bias) for own, weight, bias in maps])

    def boxes(self, states: Tensor) -> Tensor:
        """Predict boxes (n, B, 4) float32, cxcywh in [0, 1], from [REG] states (n, B, D)."""
        pairs = zip(self.heads, apart(states), strict=True)
        return joined([head(own.to(next(head.parameters()).dtype)) for head, own in pairs])


class Tokens:
    """Tokens of texts and images, each projected once: [REG], then text, then visual."""

    def __init__(
        self,
        models: FastModels,
        text: TextTokens,
        visual: VisualTokens,
        levels: Sequence[Sequence[Tensor]],
    ) -> None:
        self._models = models
        self._text_starts = 1 + text.starts
        self._visual_starts = self._text_starts[-1] + visual.starts
        reg = text.token.new_zeros(1)
        places = [reg, text.token + 1, visual.token + 1 + models.text_length]
        self._position = torch.cat(places)  # (1 + V + V,), rows of the position table
        self._keep = torch.cat([reg == 0, text.keep, visual.keep])
        self._is_packed = bool(self._keep.all())
        of_text = models.text(text.features.expand(len(models.reg), -1, -1))
        of_images = models.project_visual(levels, visual.row)
        self._rows = torch.cat([models.reg.to(of_text.dtype), of_text, of_images], dim=1)

    def lengths(self, text: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Return the number of tokens of each (text, image), (B,) int64."""
        return 1 + np.diff(self._text_starts)[text] + np.diff(self._visual_starts)[image]

    def states(self, text: np.ndarray, image: np.ndarray) -> Tensor:
        """Return [REG] after the last layer for each (text, image), (n, B, D).

        It is faster where pairs of equal length are adjacent.
        """
        starts = np.zeros((len(image), 3), dtype=np.int64)  # of [REG], text, visual
        counts = np.ones_like(starts)
        for piece, (edges, which) in enumerate(
            [(self._text_starts, text), (self._visual_starts, image)], start=1
        ):
            starts[:, piece], counts[:, piece] = edges[which], np.diff(edges)[which]
        index = torch.from_numpy(ranges(starts.ravel(), counts.ravel())).to(self._position.device)
        keep = None if self._is_packed else self._keep[index]
        sequences = Sequences(counts.sum(1).tolist(), self._position[index], keep)
        x = taken(self._rows, index)  # (n, T, D)
        position = taken(self._models.position, sequences.position).to(x.dtype)
        return self._models.fusion(x, position, sequences)

    def boxes(self, text: np.ndarray, image: np.ndarray) -> Tensor:
        """Predict the boxes (n, B, 4) of each (text, image)."""
        return self._models.boxes(self.states(text, image))


def packed_state(model: GroundingModel, given: Features) -> Tensor:
    """Return the [REG] states that `FusionEncoder` gives for `model.sequence`, (B, D).

    Padding of images and texts is left out. An image that training has scaled and pasted fills only
    a third of its square.
    """
    texts = np.arange(len(given.text_mask))
    images = texts if given.image_index is None else given.image_index.cpu().numpy()
    return packed_tokens(model, given).states(texts, images).squeeze(0)


def packed_tokens(model: GroundingModel, given: Features) -> Tokens:
    """Return the projected tokens of texts and images, to combine into any sequences."""
    image, patch_ignored, text_features, text_mask, _ = given
    seen = torch.cat([torch.ones_like(patch_ignored[:, :1]), ~patch_ignored], dim=1)  # with [CLS]
    row, starts, token, keep = kept(seen)
    level = image.flatten(0, 1)  # the concatenated levels count as one
    visual = VisualTokens([[level]], row, starts, token, keep)
    row, starts, token, keep = kept(text_mask)
    text = TextTokens(text_features.flatten(0, 1).index_select(0, row), starts, token, keep)
    fast = FastModels([model], drops=model.fusion.training)
    return Tokens(fast, text, visual, visual.levels)


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Join ``arange(start, start + count)`` of each pair, (sum of counts,) int64."""
    ends = np.cumsum(counts)
    return np.repeat(starts - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0)


def kept(mask: Tensor, *, pack: bool = True) -> tuple[Tensor, np.ndarray, Tensor, Tensor]:
    """Return row, starts, token and keep of a mask's (U, S) True entries; of all if not `pack`."""
    there = mask if pack else torch.ones_like(mask)
    row = there.flatten().nonzero()[:, 0]  # (V,)
    starts = np.concatenate([[0], np.cumsum(there.sum(1).cpu().numpy())])
    return row, starts, row % mask.shape[1], mask.flatten()[row]


def _project(levels: Sequence[Tensor], row: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Project rows (V,) of levels (R, W) by a linear map over the concatenated levels: (V, D)."""
    if row.is_cuda:  # without the concatenation; not yet measured to be faster
        return multilevel_projection(levels, weight, bias, index=row)
    side_by_side = torch.cat([level.index_select(0, row) for level in levels], dim=-1)
    return linear(side_by_side, weight, bias)
