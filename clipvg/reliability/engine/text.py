"""Text features by distinct expression, shared by all models with one text tower."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from clipvg.model import GroundingModel

CACHE_BYTES = 256 << 20


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
    """Least-recently-used cache of text features, trimmed to each expression's real tokens.

    Args:
        model: any model of the text group.
        max_bytes: features kept; the expressions of one batch always fit.
    """

    def __init__(self, model: GroundingModel, max_bytes: int = CACHE_BYTES) -> None:
        self._model = model
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def batch(self, expressions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return features (B, T, E) and mask (B, T), True = real token; T the longest length."""
        found = self._find(expressions)
        length = max(len(mask) for _, mask in found.values())
        first, first_mask = next(iter(found.values()))
        features = first.new_zeros(len(expressions), length, first.shape[1])
        mask = first_mask.new_zeros(len(expressions), length)
        for i, expression in enumerate(expressions):
            tokens, real = found[expression]
            features[i, : len(tokens)] = tokens
            mask[i, : len(real)] = real
        return features, mask

    def _find(self, expressions: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
        distinct = list(dict.fromkeys(expressions))
        missing = [expression for expression in distinct if expression not in self._kept]
        self.misses += len(missing)
        self.hits += len(expressions) - len(missing)
        found = dict(zip(missing, self._encode(missing), strict=True)) if missing else {}
        for expression in distinct:
            if expression in self._kept:
                self._kept.move_to_end(expression)
                found[expression] = self._kept[expression]
        for expression in missing:
            self._keep(expression, found[expression])
        return found

    def _encode(self, expressions: list[str]) -> list[tuple[Tensor, Tensor]]:
        tokens, mask = self._model.tokenize(expressions)
        # Past the last real token nothing matters: attention is causal and padding is masked.
        # Inside it a token may be masked ("published" masks id 0), so lengths are not sums.
        position = torch.arange(1, mask.shape[1] + 1)
        lengths = (mask * position).amax(dim=1).tolist()
        longest = max(lengths)
        device = self._model.device
        features = self._model.encode_text(tokens[:, :longest].to(device))
        mask = mask[:, :longest].to(device)
        return [(features[i, :n].clone(), mask[i, :n].clone()) for i, n in enumerate(lengths)]

    def _keep(self, expression: str, value: tuple[Tensor, Tensor]) -> None:
        self._kept[expression] = value
        self._bytes += value[0].nbytes
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            _, (features, _) = self._kept.popitem(last=False)
            self._bytes -= features.nbytes
