"""Text features: each expression is encoded once, up to its last real token, without padding."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from clipvg.model.fast.towers import encode_texts
from clipvg.model.tokenizer import real_lengths

if TYPE_CHECKING:
    from clipvg.model.backbone import Backbone
    from clipvg.model.grounder import GroundingModel

_TEXTS_AT_ONCE = 4_096
_MOST_TOKENS = 48  # tokens of a text that a matcher reads
Entry = tuple[Tensor, Tensor]  # features (T, E); (T,) bool, True for real tokens


class TextStore:
    """Store of the text features of distinct expressions, which gives padded batches of them.

    Features are concatenated in one (tokens, E) tensor, so that one long expression does not pad
    all others. If the text tower is trained (`prefix="learned"`), or above `max_bytes`, only the
    token ids are kept, and each batch is encoded again.
    """

    def __init__(
        self, model: GroundingModel, device: torch.device, max_bytes: int | None = None
    ) -> None:
        self._model = model
        self.device = device
        self._max_bytes = max_bytes
        self._index: dict[str, int] = {}
        self._keeps = model.frozen_text
        self._ids = torch.zeros(0, dtype=torch.int64)
        self._mask = torch.zeros(0, dtype=torch.bool)
        self._features: Tensor | None = None
        self._starts = torch.zeros(0, dtype=torch.int64)
        self._lengths = torch.zeros(0, dtype=torch.int64)

    def cover(self, expressions: Iterable[str]) -> None:
        """Tokenise new expressions, and encode them if the text tower is frozen."""
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
        """Return the index of each expression, int64; all must be covered."""
        return np.array([self._index[e] for e in expressions], dtype=np.int64)

    def take(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return the padded features, or token ids, of some expressions.

        Args:
            numbers (Tensor[B]): int64, as given by `indices`.

        Returns:
            (features Tensor[B, T, E], or token ids Tensor[B, T] if features are not kept;
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
        """Append features of new expressions, or drop all features if they become too large."""
        towers = self._model.backbone
        size = (len(self._ids) + int(lengths.sum())) * towers.embed_dim * 4
        if self._max_bytes is not None and size > self._max_bytes:
            self._keeps = False
        if not self._keeps:
            self._features = None
            return
        with torch.no_grad():
            new = encode_texts(towers, ids, lengths, device=self.device)
        kept = [] if self._features is None else [self._features]
        self._features = torch.cat([*kept, *new]).float()


@torch.no_grad()
def padded_tokens(
    model: GroundingModel, texts: Sequence[str], read: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Apply `read` to the features of U texts; return (U, T, C) and the mask (U, T), T at most 48.

    Values past the last token of a text are undefined.
    """
    parts: list[Tensor] = []
    masks: list[Tensor] = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        some = texts[start : start + _TEXTS_AT_ONCE]
        store = TextStore(model, torch.device("cpu"))
        store.cover(some)
        found, mask = store.take(torch.from_numpy(store.indices(some)))
        if not found.is_floating_point():  # the text tower is trained
            found = model.encode_text(found.to(model.device)).cpu()
        parts += read(found)[:, :_MOST_TOKENS].unbind()
        masks += mask[:, :_MOST_TOKENS].unbind()
    return pad_sequence(parts, batch_first=True), pad_sequence(masks, batch_first=True)


@dataclass(eq=False)
class TextCache:
    """Least-recently-used cache of text features, for passes over more texts than fit in memory."""

    model: GroundingModel
    towers: Backbone
    max_bytes: int
    packed: bool = True  # encode without padding
    trims: bool = True  # encode up to the last real token only
    _bytes: int = field(default=0, init=False)
    _kept: OrderedDict[str, Entry] = field(default_factory=OrderedDict, init=False)

    def clear(self) -> None:
        """Forget all features."""
        self._kept.clear()
        self._bytes = 0

    def find(self, expressions: Sequence[str]) -> tuple[list[Entry], int]:
        """Return the features of distinct expressions, and how many had to be encoded."""
        missing = [expression for expression in expressions if expression not in self._kept]
        new = dict(zip(missing, self._encode(missing), strict=True))
        found = [new[text] if text in new else self._kept[text] for text in expressions]
        for text in expressions:
            if text in self._kept:
                self._kept.move_to_end(text)
        for text, entry in new.items():
            self._keep(text, entry)
        return found, len(missing)

    def _encode(self, expressions: Sequence[str]) -> list[Entry]:
        if not expressions:
            return []
        tokens, mask = self.model.tokenize(expressions)
        lengths = real_lengths(mask)
        if not self.trims:
            lengths = torch.full_like(lengths, mask.shape[1])
        encoded = encode_texts(
            self.towers, tokens, lengths, prefix=self.model.prefix, packed=self.packed
        )
        # clone: a view would keep everything encoded with it
        return [
            (text.clone(), mask[row, : len(text)].to(text.device))
            for row, text in enumerate(encoded)
        ]

    def _keep(self, expression: str, entry: Entry) -> None:
        self._kept[expression] = entry
        self._bytes += entry[0].nbytes
        while self._bytes > self.max_bytes and self._kept:
            _, (features, _) = self._kept.popitem(last=False)
            self._bytes -= features.nbytes
