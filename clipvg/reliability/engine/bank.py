"""Every token of a chunk once, and the sequences that its labels make of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from clipvg.reliability.engine.images import VisualTokens
from clipvg.reliability.engine.plan import ranges
from clipvg.reliability.engine.stack import HeadStack, Sequences
from clipvg.reliability.engine.text import TextTokens

_PIECES = 3  # [REG], text, visual


class Bank:
    """Tokens of a chunk: [REG], then text of its expressions, then visual tokens of its images.

    With ``share_first_layer`` they are projected here, once each, and a label's sequence is
    gathered from the result; without it they are projected label by label.

    Args:
        heads: the stack that reads the sequences.
        text: tokens of the expressions.
        visual: tokens of the images.
        levels: visual features by level for each measurer of the stack.
    """

    def __init__(
        self,
        heads: HeadStack,
        text: TextTokens,
        visual: VisualTokens,
        levels: Sequence[Sequence[Tensor]],
    ) -> None:
        self._heads, self._text, self._levels = heads, text, levels
        self._rows = visual.row
        self._text_starts = 1 + text.starts
        self._visual_starts = self._text_starts[-1] + visual.starts
        reg = text.token.new_zeros(1)
        offsets = 1, 1 + heads.text_length
        self._position = torch.cat([reg, text.token + offsets[0], visual.token + offsets[1]])
        self._keep = torch.cat([reg == 0, text.keep, visual.keep])
        self._is_packed = bool(self._keep.all())
        self._shares = heads.does.share_first_layer
        if self._shares:
            self._tokens = self._project(text.features, visual.row)
            self._qkv = heads.first_qkv(self._tokens, self._position)

    def lengths(self, expression: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Return the number of tokens of each (expression, image), (R,) int64."""
        return 1 + np.diff(self._text_starts)[expression] + np.diff(self._visual_starts)[image]

    def boxes(self, expression: np.ndarray, image: np.ndarray) -> Tensor:
        """Predict the boxes (n, B, 4) of some (expression, image); equal lengths side by side."""
        starts = np.zeros((len(image), _PIECES), dtype=np.int64)
        counts = np.ones_like(starts)
        starts[:, 1], counts[:, 1] = _span(self._text_starts, expression)
        starts[:, 2], counts[:, 2] = _span(self._visual_starts, image)
        index = torch.from_numpy(ranges(starts.ravel(), counts.ravel())).to(self._position.device)
        keep = None if self._is_packed else self._keep[index]
        sequences = Sequences(counts.sum(1), self._position[index], keep)
        if self._shares:
            gather = self._heads.gather
            qkv = None if self._qkv is None else gather("qkv", self._qkv, index)
            return self._heads.boxes(gather("x", self._tokens, index), qkv, sequences)
        tokens = self._project_anew(index)
        qkv = self._heads.first_qkv(tokens, sequences.position)
        return self._heads.boxes(tokens, qkv, sequences)

    def _project(self, text: Tensor, visual: Tensor) -> Tensor:
        """Project text features and rows of the levels to (n, T, D): [REG], text, visual."""
        reg, before = self._heads.reg, 1 + len(text)
        tokens = reg.new_empty(len(reg), before + len(visual), reg.shape[2])
        tokens[:, :1], tokens[:, 1:before] = reg, self._heads.project_text(text)
        self._heads.project_visual(self._levels, visual, tokens[:, before:])
        return tokens

    def _project_anew(self, index: Tensor) -> Tensor:
        """Project the tokens of sequences, a token of several labels as often as it occurs."""
        first_text, first_visual = int(self._text_starts[0]), int(self._visual_starts[0])
        is_text = (index >= first_text) & (index < first_visual)
        is_visual = index >= first_visual
        text = self._text.features[index[is_text] - first_text]
        tokens = self._project(text, self._rows[index[is_visual] - first_visual])
        place = torch.zeros_like(index)  # [REG] is the first
        place[is_text] = torch.arange(len(text), device=index.device) + 1
        place[is_visual] = torch.arange(1 + len(text), tokens.shape[1], device=index.device)
        return tokens.index_select(1, place)


def _span(starts: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return starts[which], starts[which + 1] - starts[which]
