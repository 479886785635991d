"""Tokenise expressions to CLIP token ids, by the rules of a preset."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence

import regex
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from clipvg.data.preset import Preset
from clipvg.errors import InputError
from clipvg.labels.check.expressions import READ

#: The reference's prompt variant: start of text, then "fine region cor·responds to".
PUBLISHED_PREFIX = (49406, 3797, 4341, 851, 17436, 531)
_START, _END = "<|startoftext|>", "<|endoftext|>"


@functools.cache
def byte_pairs(special_names: bool) -> SimpleTokenizer:
    """Return open_clip's tokenizer with CLIP's own names of the start and end tokens, or with none.

    open_clip's names for them differ, and it would recognise them in expressions too.
    """
    bpe = SimpleTokenizer()
    rest = bpe.pat.pattern.removeprefix("<start_of_text>|<end_of_text>|")
    names = {_START: bpe.sot_token_id, _END: bpe.eot_token_id} if special_names else {}
    bpe.pat = regex.compile("|".join([*map(regex.escape, names), rest]), regex.IGNORECASE)
    bpe.encoder.update(names)
    bpe.cache = {name: name for name in names}
    clean = bpe.clean_fn
    bpe.clean_fn = lambda text: clean(text)[:READ]
    return bpe


@functools.lru_cache(maxsize=65536)
def _encode(text: str, special_names: bool) -> tuple[int, ...]:
    bpe = byte_pairs(special_names)
    return (bpe.sot_token_id, *bpe.encode(text), bpe.eot_token_id)


def prefix_ids(prefix: str | Sequence[int] | None) -> tuple[int, ...]:
    """Return the token ids that a `prefix` option prepends."""
    if prefix is None:
        return ()
    return PUBLISHED_PREFIX if isinstance(prefix, str) else tuple(int(i) for i in prefix)


def real_lengths(mask: Tensor) -> Tensor:
    """Return the number of positions up to each row's last real token: (B, T) bool -> (B,) int64.

    Attention over text is causal and later positions are masked, so they do not matter. Earlier
    tokens may be masked too (preset "published" masks id 0), so lengths are not sums.
    """
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return (mask * places).amax(1)


class Tokenizer:
    """CLIP's byte-pair tokenizer with a preset's rules for length and mask.

    Args:
        preset: input rules; `text_mask` "eot" or "nonzero", `overlength` "truncate" or "error".
        context_length: number of token positions, start and end included.
        prefix: None, "published", "learned" or token ids; put before every expression.
        prompt: template with ``{}``.
    """

    def __init__(
        self,
        preset: Preset,
        context_length: int = 77,
        *,
        prefix: str | Sequence[int] | None = None,
        prompt: str | None = None,
    ) -> None:
        self.preset = preset
        self.context_length = context_length
        self.prefix = prefix_ids(prefix)
        self.prompt = prompt

    def __call__(self, expressions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return token ids and mask.

        Returns:
            (Tensor[B, context_length] int64, padded with 0; Tensor[B, context_length] bool, True
            for a real token).

        Raises:
            InputError: an expression is not a text, or longer than the context under a preset
                whose `overlength` is "error".
        """
        if isinstance(expressions, str):
            expressions = [expressions]
        rows = [_encode(self._text(e), self.preset.special_names) for e in expressions]
        limit = self.context_length
        if self.preset.overlength != "error":
            limit -= len(self.prefix)
        long = [i for i, row in enumerate(rows) if len(row) > limit]
        if long:
            self._overlength(expressions, rows, long, limit)
            rows = [r if len(r) <= limit else (*r[: limit - 1], r[-1]) for r in rows]
        ids = torch.zeros(len(rows), self.context_length, dtype=torch.int64)
        mask = torch.zeros(len(rows), self.context_length, dtype=torch.bool)
        for i, row in enumerate(rows):
            # Like the reference, cut what the prefix pushes out, even the end token.
            row = (*self.prefix, *row)[: self.context_length]
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = True
        if self.preset.text_mask == "nonzero":
            mask = ids > 0  # "!" can have id 0 and is masked then, as in the reference
        return ids, mask

    def too_long(self, expressions: Sequence[str]) -> dict[int, int]:
        """Return the expressions that a call would refuse: their positions -> numbers of tokens."""
        if self.preset.overlength != "error":
            return {}
        limit, counts = self.context_length, dict[str, int]()
        for expression in dict.fromkeys(expressions):
            text = self._text(expression)
            # ASCII has at most a token per character, but & may begin an entity that grows.
            if len(text) > limit - 2 or not text.isascii() or "&" in text:
                counts[expression] = len(_encode(text, self.preset.special_names))
        return {i: counts[e] for i, e in enumerate(expressions) if counts.get(e, 0) > limit}

    def _text(self, expression: str) -> str:
        if not isinstance(expression, str):
            raise InputError(
                f"an expression is {expression!r}, a {type(expression).__name__}; expected a text. "
                f"Pass strings."
            )
        text = self.prompt.replace("{}", expression) if self.prompt else expression
        return text.lower()

    def _overlength(
        self,
        expressions: Sequence[str],
        rows: Sequence[tuple[int, ...]],
        long: list[int],
        limit: int,
    ) -> None:
        first = long[0]
        what = (
            f"{len(long)} of {len(rows)} expressions have more than {limit} tokens, the first is "
            f"number {first} with {len(rows[first])}: {expressions[first][:60]!r}"
        )
        if self.preset.overlength == "error":
            raise InputError(
                f"{what}. Shorten them or use preset 'default', which cuts them at the end."
            )
        warnings.warn(f"{what}; they are cut to {limit}, end token kept.", stacklevel=3)
