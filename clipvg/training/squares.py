"""Distinct pictures of labels, letterboxed, in batches; a picture that cannot be read is named."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clipvg.data.letterbox import load_square
from clipvg.data.preset import Preset
from clipvg.errors import InputError


@dataclass
class Squares:
    """Up to B pictures.

    Attributes:
        start: place of the first one in the sequence.
        pixels: (B, 3, S, S) float32, 0 for a picture that cannot be read.
        mask: (B, S, S) bool, True for padding.
        sizes: (B, 2) int64 (width, height) in pixels, after EXIF rotation where that applies.
        errors: why a picture cannot be read, by place in the batch.
    """

    start: int
    pixels: Tensor
    mask: Tensor
    sizes: np.ndarray
    errors: dict[int, str]


def read_squares(
    paths: Sequence[Path], size: int, preset: Preset, *, batch_size: int = 32, num_workers: int = 0
) -> Iterator[Squares]:
    """Letterboxed pictures of some files, in order.

    Args:
        paths: the files.
        size: side of the square in pixels.
        preset: of the model.
        batch_size: pictures at a time.
        num_workers: processes that decode; 0 decodes here.

    Yields:
        Squares; reading never raises for a bad picture.
    """
    loader = DataLoader(
        _Pictures([str(path) for path in paths], size, preset),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=_collate,
    )
    start = 0
    for pixels, mask, sizes, errors in loader:
        yield Squares(start, pixels, mask, sizes, errors)
        start += len(sizes)


class _Pictures(Dataset[tuple]):
    def __init__(self, paths: list[str], size: int, preset: Preset) -> None:
        self.paths, self.size, self.preset = paths, size, preset

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple:
        try:
            pixels, mask, box = load_square(self.paths[index], self.size, self.preset)
        except InputError as error:  # kept as text: a worker's exception arrives as a traceback
            blank = torch.ones(self.size, self.size, dtype=torch.bool)
            return torch.zeros(3, self.size, self.size), blank, (1, 1), str(error)
        return pixels, mask, (box.width, box.height), None


def _collate(pictures: list[tuple]) -> tuple:
    pixels, masks, sizes, errors = zip(*pictures, strict=True)
    bad = {place: error for place, error in enumerate(errors) if error is not None}
    return torch.stack(pixels), torch.stack(masks), np.array(sizes, dtype=np.int64), bad
