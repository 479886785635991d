"""Decode and encode the images and expressions of a rescoring pass, each once per tower."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from clipvg.data.image import decode
from clipvg.data.letterbox import Square
from clipvg.errors import InputError
from clipvg.features.texts import TextCache
from clipvg.model import GroundingModel
from clipvg.model.backbone import Backbone
from clipvg.model.fast.tokens import TextTokens, VisualTokens, kept
from clipvg.rescoring.config import Stats
from clipvg.rescoring.plan import Chunk, Plan

T = TypeVar("T")


@dataclass(frozen=True)
class Decoded(Generic[T]):
    """Images of a chunk, or the error of each that cannot be read."""

    chunk: Chunk  # the images' names and labels
    images: list[T | InputError]  # each as loaded, or its error

    def readable(self) -> list[T]:
        """Return the U images that could be read."""
        return [image for image in self.images if not isinstance(image, InputError)]

    def usable(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the labels on readable images: positions in ``chunk.rows`` and in `readable`."""
        good = np.array([not isinstance(image, InputError) for image in self.images], dtype=bool)
        usable = np.flatnonzero(good[self.chunk.image_of_row])
        return usable, (np.cumsum(good) - 1)[self.chunk.image_of_row[usable]]

    def unreadable(self, on_error: Literal["null", "raise"]) -> dict[int, str]:
        """Return by row why its image cannot be read; "raise" raises the first error instead."""
        reasons: dict[int, str] = {}
        for i, image in enumerate(self.images):
            if isinstance(image, InputError):
                if on_error == "raise":
                    raise image
                rows = self.chunk.rows[self.chunk.image_of_row == i]
                reasons.update(dict.fromkeys(rows.tolist(), str(image)))
        return reasons


def decode_chunks(
    plan: Plan, chunks: Iterable[Chunk], load: Callable[[Path], T], *, workers: int | None = None
) -> Generator[Decoded[T], None, None]:
    """Yield chunks with their images; the next chunk is decoded in threads meanwhile."""
    files = ((chunk, [plan.labels.image_path(name) for name in chunk.images]) for chunk in chunks)
    with closing(decode(files, load, workers=workers)) as decoded:
        for chunk, images in decoded:
            yield Decoded(chunk, images)


def visual_tokens(
    towers: list[Backbone],
    model: GroundingModel,
    squares: list[Square],
    *,
    dtype: torch.dtype,
    pack: bool,
    batch: int,
) -> VisualTokens:
    """Encode U images with every tower and keep the tokens that are used.

    The towers see the same pixels; the model, any of their group, gives mask and device. With
    `pack` padding of the letterbox is left out.
    """
    device = model.device
    ignored = model.patch_mask(torch.stack([mask for _, mask, _ in squares]))
    seen = torch.cat([torch.ones(len(ignored), 1, dtype=torch.bool), ~ignored], dim=1)  # with [CLS]
    row, starts, token, keep = kept(seen, pack=pack)
    levels: list[list[list[Tensor]]] = [[] for _ in towers]
    for first in range(0, len(squares), batch):
        part = squares[first : first + batch]
        pixels = torch.stack([pixels for pixels, _, _ in part]).to(device, dtype)
        for tower, parts in zip(towers, levels, strict=True):
            parts.append([level.flatten(0, 1) for level in tower.image_levels(pixels)])
    joined = [[torch.cat(level) for level in zip(*parts, strict=True)] for parts in levels]
    return VisualTokens(joined, row.to(device), starts, token.to(device), keep.to(device))


def text_tokens(
    cache: TextCache, expressions: Sequence[str], stats: Stats, *, pack: bool
) -> TextTokens:
    """Return the tokens of distinct expressions."""
    found, encoded = cache.find(expressions)
    stats.texts += encoded
    stats.text_hits += len(expressions) - encoded
    real = pad_sequence([mask for _, mask in found], batch_first=True)  # (U, T)
    _, starts, token, keep = kept(real, pack=pack)
    if pack:
        features = torch.cat([each[mask] for each, mask in found])  # (V, E)
    else:
        features = pad_sequence([each for each, _ in found], batch_first=True).flatten(0, 1)
    return TextTokens(features, starts, token, keep)
