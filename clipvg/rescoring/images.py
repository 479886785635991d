"""Images of a rescoring pass: decoded in threads, encoded once an image tower."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from clipvg.data.letterbox import Square
from clipvg.errors import InputError
from clipvg.features.decode import decode, load_squares
from clipvg.features.keys import PixelsKey, pixels_key
from clipvg.labels import LabelTable
from clipvg.model.fast.tokens import VisualTokens
from clipvg.rescoring.plan import Chunk

if TYPE_CHECKING:
    from clipvg.model import GroundingModel
    from clipvg.model.backbone import Backbone


@dataclass(frozen=True)
class Decoded:
    """Images of a chunk as squares, by `pixels_key`; the error where one cannot be read."""

    chunk: Chunk
    images: list[dict[PixelsKey, Square] | InputError]

    def readable(self) -> list[int]:
        """Return positions of the images that could be read."""
        return [i for i, image in enumerate(self.images) if not isinstance(image, InputError)]

    def squares(self, model: GroundingModel) -> list[Square]:
        """Return the readable images as a model sees them."""
        key = pixels_key(model)
        return [image[key] for image in self.images if not isinstance(image, InputError)]


def decode_chunks(
    labels: LabelTable,
    chunks: Iterable[Chunk],
    models: Sequence[GroundingModel],
    *,
    workers: int | None = None,
) -> Generator[Decoded, None, None]:
    """Yield chunks with their images; the next chunk is decoded in threads meanwhile.

    Args:
        labels: the labels, with an image root.
        chunks: in the order wanted.
        models: whose squares to make of each image.
        workers: as of `clipvg.features.decode.decode`.
    """
    files = ((chunk, [labels.image_path(name) for name in chunk.images]) for chunk in chunks)
    with closing(decode(files, partial(load_squares, models=models), workers=workers)) as decoded:
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
    """Encode images with every tower and keep the tokens that count.

    Args:
        towers: image towers that see the same pixels.
        model: a model of the group: decides mask and device.
        squares: U images.
        dtype: of the towers.
        pack: leave padding of the letterbox out.
        batch: images a tower takes at a time.
    """
    device = model.device
    ignored = model.patch_mask(torch.stack([mask for _, mask, _ in squares]))
    keep = torch.cat([torch.ones(len(ignored), 1, dtype=torch.bool), ~ignored], dim=1)
    taken = keep if pack else torch.ones_like(keep)
    counts = taken.sum(1).numpy()
    starts = np.concatenate([[0], np.cumsum(counts)])
    where = taken.flatten().nonzero()[:, 0]
    row = where.to(device)
    levels: list[list[list[Tensor]]] = [[] for _ in towers]
    for first in range(0, len(squares), batch):
        part = squares[first : first + batch]
        pixels = torch.stack([pixels for pixels, _, _ in part]).to(device, dtype)
        for tower, parts in zip(towers, levels, strict=True):
            parts.append([level.flatten(0, 1) for level in tower.image_levels(pixels)])
    joined = [[torch.cat(level) for level in zip(*parts, strict=True)] for parts in levels]
    return VisualTokens(joined, row, starts, row % keep.shape[1], keep.flatten()[where].to(device))
