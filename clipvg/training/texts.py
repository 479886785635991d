"""Text features of distinct expressions, packed without padding."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from clipvg.model.grounder import GroundingModel

_ENCODE_BATCH = 256  # expressions of similar length encoded together


def real_lengths(mask: Tensor) -> Tensor:
    """Positions up to the last real token of each row: (B, T) bool -> (B,) int64.

    Text is causal and what follows is masked, so no position after it matters.
    """
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return (mask * places).amax(1)


class TextStore:
    """Text features of each distinct expression up to its last real token.

    They lie end to end in one (tokens, E) tensor, so that one long expression does not make all
    others as long. With a text tower that learns (`prefix="learned"`), or above `max_bytes`, only
    the token ids are kept, and each batch is encoded anew.

    Args:
        model: whose tokenizer and text tower are used.
        device: where the features are kept.
        max_bytes: largest size of the features; None for no limit.
    """

    def __init__(
        self, model: "GroundingModel", device: torch.device, max_bytes: int | None = None
    ) -> None:
        self._model, self.device, self._max_bytes = model, device, max_bytes
        self._index: dict[str, int] = {}
        self._keeps = model.frozen_text
        self._ids = torch.zeros(0, dtype=torch.int64)
        self._mask = torch.zeros(0, dtype=torch.bool)
        self._features: Tensor | None = None
        self._starts = torch.zeros(0, dtype=torch.int64)
        self._lengths = torch.zeros(0, dtype=torch.int64)

    def cover(self, expressions: Iterable[str]) -> None:
        """Tokenise, and encode where the tower is frozen, the expressions not seen yet."""
        new = [e for e in dict.fromkeys(expressions) if e not in self._index]
        if not new:
            return
        ids, mask = self._model.tokenize(new)
        lengths = real_lengths(mask).clamp(min=1)
        real = torch.arange(ids.shape[1]) < lengths[:, None]  # (n, T)
        self._encode(ids, lengths)
        self._starts = torch.cat([self._starts, len(self._ids) + lengths.cumsum(0) - lengths])
        self._lengths = torch.cat([self._lengths, lengths])
        self._ids = torch.cat([self._ids, ids[real]])
        self._mask = torch.cat([self._mask, mask[real]])
        first = len(self._index)
        self._index.update((expression, first + i) for i, expression in enumerate(new))

    def indices(self, expressions: Iterable[str]) -> np.ndarray:
        """Number of each expression, int64; all must be covered."""
        return np.array([self._index[e] for e in expressions], dtype=np.int64)

    def take(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Padded text of some expressions.

        Args:
            numbers (Tensor[B]): int64, as given by `indices`.

        Returns:
            (features Tensor[B, T, E], or token ids Tensor[B, T] where those are not kept;
            mask Tensor[B, T] bool, True for a real token). T is the longest of the batch.
        """
        lengths = self._lengths[numbers]
        offsets = torch.arange(int(lengths.max()))
        inside = offsets < lengths[:, None]  # (B, T)
        place = torch.where(inside, self._starts[numbers][:, None] + offsets, 0)
        mask = self._mask[place] & inside
        if self._features is None:
            return self._ids[place] * inside, mask
        flat = self._features.index_select(0, place.flatten().to(self.device))
        return flat.view(*place.shape, -1), mask

    def _encode(self, ids: Tensor, lengths: Tensor) -> None:
        """Append features of new expressions, those of similar length in one batch."""
        size = (len(self._ids) + int(lengths.sum())) * self._model.backbone.embed_dim * 4
        if self._max_bytes is not None and size > self._max_bytes:
            self._keeps = False
        if not self._keeps:
            self._features = None
            return
        pieces: list[Tensor] = [torch.empty(0)] * len(ids)
        for chosen in lengths.argsort(stable=True).split(_ENCODE_BATCH):
            tokens = ids[chosen, : int(lengths[chosen].max())].to(self._model.device)
            with torch.no_grad():
                features = self._model.encode_text(tokens).float().to(self.device)
            for row, number in enumerate(chosen.tolist()):
                pieces[number] = features[row, : int(lengths[number])]
        kept = [] if self._features is None else [self._features]
        self._features = torch.cat([*kept, *pieces])
