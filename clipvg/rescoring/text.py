"""Text tokens of a chunk, from features that all models with one text tower share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from clipvg.features.texts import TextCache
from clipvg.model.fast.tokens import TextTokens
from clipvg.rescoring.stats import Stats


def text_tokens(
    cache: TextCache, expressions: Sequence[str], stats: Stats, *, pack: bool
) -> TextTokens:
    """Return the tokens of distinct expressions."""
    found, encoded = cache.find(expressions)
    stats.texts += encoded
    stats.text_hits += len(expressions) - encoded
    length = max(len(real) for _, real in found)
    parts, tokens, keeps, counts = [], [], [], []
    for features, real in found:
        if pack:
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
