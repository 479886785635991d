"""Text features by distinct expression, shared by all models with one text tower."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from clipvg.model.fast.text import can_pack, packed_text_features
from clipvg.model.fast.tokens import TextTokens
from clipvg.reliability.engine.config import EngineConfig
from clipvg.reliability.engine.stats import Stats

if TYPE_CHECKING:
    from clipvg.model import GroundingModel
    from clipvg.model.backbone import Backbone

_TOKENS = 4096  # that the tower takes at a time

Entry = tuple[Tensor, Tensor]  # features (T, E), which of the T tokens are real (T,) bool


def text_group(model: GroundingModel) -> tuple[Any, ...]:
    """Return what decides a model's text features: equal groups share them."""
    config, preset = model.config, model.preset
    prefix: Any = config.prefix
    if prefix == "learned":
        prefix = ("learned", id(model))
    elif prefix is not None and not isinstance(prefix, str):
        prefix = tuple(prefix)
    rules = (prefix, config.prompt, preset.text_mask, preset.overlength)
    return (model.backbone.text_key, model.device, *rules)


class TextFeatures:
    """Least-recently-used cache of text features.

    Args:
        model: any model of the text group.
        tower: its towers in the precision of the pass.
        config: size of the cache, and what is trimmed and packed.
    """

    def __init__(self, model: GroundingModel, tower: Backbone, config: EngineConfig) -> None:
        self._model, self._tower = model, tower
        self._does = config.optimisations
        self._packs = self._does.pack and can_pack(tower)
        self._max_bytes = config.text_cache_mib << 20
        self._bytes = 0
        self._kept: OrderedDict[str, Entry] = OrderedDict()

    def clear(self) -> None:
        """Forget all features."""
        self._kept.clear()
        self._bytes = 0

    def tokens(self, expressions: Sequence[str], stats: Stats) -> TextTokens:
        """Return the tokens of distinct expressions."""
        found, encoded = self._find(expressions)
        stats.texts += encoded
        stats.text_hits += len(expressions) - encoded
        length = max(len(real) for _, real in found)
        parts, tokens, keeps, counts = [], [], [], []
        for features, real in found:
            if self._does.pack:
                token = real.nonzero()[:, 0]
                features, real = features[token], real[token]
            else:
                token = torch.arange(length, device=real.device)
                missing = length - len(real)
                features = torch.nn.functional.pad(features, (0, 0, 0, missing))
                real = torch.nn.functional.pad(real, (0, missing))
            parts.append(features)
            tokens.append(token)
            keeps.append(real)
            counts.append(len(token))
        starts = np.concatenate([[0], np.cumsum(counts)])
        return TextTokens(torch.cat(parts), starts, torch.cat(tokens), torch.cat(keeps))

    def _find(self, expressions: Sequence[str]) -> tuple[list[Entry], int]:
        """Return features, and how many had to be encoded."""
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
        tokens, mask = self._model.tokenize(expressions)
        # Past the last real token nothing matters: attention is causal and padding is masked.
        # Inside it a token may be masked ("published" masks id 0), so lengths are not sums.
        lengths = (mask * torch.arange(1, mask.shape[1] + 1)).amax(dim=1)
        if not self._does.trim_text:
            lengths = torch.full_like(lengths, mask.shape[1])
        entries: dict[int, Entry] = {}
        order = torch.argsort(lengths, stable=True)
        batch = torch.cumsum(lengths[order], 0) // _TOKENS
        for some in order.split(torch.unique_consecutive(batch, return_counts=True)[1].tolist()):
            rows = some.tolist()
            texts = [tokens[row, : lengths[row]] for row in rows]
            for row, features in zip(rows, self._features(texts), strict=True):
                entries[row] = features.clone(), mask[row, : len(features)].to(features.device)
        return [entries[row] for row in range(len(expressions))]

    def _features(self, texts: list[Tensor]) -> Sequence[Tensor]:
        """Return features (T, E) of ids (T,), shorter texts first."""
        texts = [text.to(self._model.device) for text in texts]
        prefix = self._model.prefix
        if self._packs:
            return packed_text_features(self._tower, texts, prefix)
        padded = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
        features = self._tower.text_features(padded, prefix)
        return [own[: len(text)] for own, text in zip(features, texts, strict=True)]

    def _keep(self, expression: str, entry: Entry) -> None:
        self._kept[expression] = entry
        self._bytes += entry[0].nbytes
        while self._bytes > self._max_bytes and self._kept:
            _, (features, _) = self._kept.popitem(last=False)
            self._bytes -= features.nbytes
