"""Images of a rescoring pass: decoded in threads, encoded once an image tower."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from clipvg.data.image import read_image
from clipvg.data.letterbox import Square, make_square
from clipvg.data.preset import Channels, Preset
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.model.fast.tokens import VisualTokens
from clipvg.reliability.engine.plan import Chunk

if TYPE_CHECKING:
    from clipvg.model import GroundingModel
    from clipvg.model.backbone import Backbone

MAX_WORKERS = 16
_CHUNKS_AHEAD = 2


@dataclass(frozen=True)
class Geometry:
    """What decides the pixels a model sees."""

    size: int
    mean: Channels
    std: Channels
    exif: bool
    preset: Preset = field(compare=False)

    @classmethod
    def of(cls, model: GroundingModel) -> Geometry:
        """Return the geometry of a model."""
        preset = model.preset
        return cls(model.backbone.image_size, preset.mean, preset.std, preset.exif, preset)


@dataclass(frozen=True)
class Decoded:
    """Images of a chunk as squares, by geometry; the error where one cannot be read."""

    chunk: Chunk
    images: list[dict[Geometry, Square] | InputError]

    def readable(self) -> list[int]:
        """Return positions of the images that could be read."""
        return [i for i, image in enumerate(self.images) if not isinstance(image, InputError)]

    def squares(self, geometry: Geometry) -> list[Square]:
        """Return the readable images in one geometry."""
        return [image[geometry] for image in self.images if not isinstance(image, InputError)]


def load_image(path: Path, geometries: Iterable[Geometry]) -> dict[Geometry, Square] | InputError:
    """Decode a picture once and make a square of each geometry; or say why it cannot be read."""
    pictures = {}
    squares = {}
    try:
        for geometry in geometries:
            if geometry.exif not in pictures:
                pictures[geometry.exif] = read_image(path, exif=geometry.exif)
            picture = pictures[geometry.exif]
            squares[geometry] = make_square(picture, geometry.size, geometry.preset)
    except InputError as error:
        return error
    return squares


def decode(
    labels: LabelTable,
    chunks: Iterable[Chunk],
    geometries: list[Geometry],
    *,
    workers: int | None = None,
) -> Generator[Decoded, None, None]:
    """Yield chunks with their images; the next chunks are decoded in threads meanwhile.

    Args:
        labels: the labels, with an image root.
        chunks: in the order wanted.
        geometries: squares to make of each image.
        workers: number of threads; None is one a core, at most 16.
    """
    waiting: deque[tuple[Chunk, list[Future[dict[Geometry, Square] | InputError]]]] = deque()
    pool = ThreadPoolExecutor(workers or min(os.cpu_count() or 1, MAX_WORKERS))
    try:
        for chunk in chunks:
            paths = map(labels.image_path, chunk.images)
            waiting.append((chunk, [pool.submit(load_image, path, geometries) for path in paths]))
            if len(waiting) > _CHUNKS_AHEAD:
                yield _ready(*waiting.popleft())
        while waiting:
            yield _ready(*waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ready(chunk: Chunk, jobs: list[Future[dict[Geometry, Square] | InputError]]) -> Decoded:
    return Decoded(chunk, [job.result() for job in jobs])


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
