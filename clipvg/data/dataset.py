"""Dataset that turns labels into batches of tensors, and the order of its rows in an epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from clipvg.data.image import read_image
from clipvg.data.letterbox import Square, load_square
from clipvg.data.preset import Preset

if TYPE_CHECKING:
    from clipvg.data.augment import TrainTransform
    from clipvg.labels import LabelTable

Tokenize = Callable[[list[str]], tuple[torch.Tensor, torch.Tensor]]
_LOOK_AHEAD = 64  # upcoming groups among which one that fits into the batch is sought
Drawn = tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]  # pixels, mask, target, key


@dataclass
class Batch:
    """B labels on U distinct images."""

    images: torch.Tensor  # (U, 3, S, S) float32, standardised, zero where padded
    pixel_mask: torch.Tensor  # (U, S, S) bool, True where padded
    image_index: torch.Tensor  # (B,) int64, row of ``images`` with each label's image
    tokens: torch.Tensor  # (B, T) int64 token ids
    text_mask: torch.Tensor  # (B, T) bool, True for real tokens
    target: torch.Tensor  # (B, 4) float32 cxcywh, normalised to the letterboxed square
    row: torch.Tensor  # (B,) int64, row of the label in its table

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Return the batch on another device."""
        return Batch(**{k: t.to(device, non_blocking=non_blocking) for k, t in vars(self).items()})

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory (a DataLoader calls this)."""
        return Batch(**{name: tensor.pin_memory() for name, tensor in vars(self).items()})

    def __len__(self) -> int:
        return len(self.row)


@dataclass
class Sample:
    """One label as tensors; samples with the same ``image_key`` share their pixels."""

    pixels: torch.Tensor
    mask: torch.Tensor
    target: torch.Tensor
    image_key: int
    tokens: torch.Tensor
    text_mask: torch.Tensor
    row: int


class LabelDataset(Dataset[Sample]):
    """Labels with their images and tokens, for a DataLoader that uses ``collate``.

    Without ``transform`` each image is letterboxed, and decoded once per batch, however many of the
    batch's labels are on it. With ``transform`` each label gets its own augmented image, which
    depends only on (seed, epoch, row), not on workers, batches or processes. Labels of an image
    that ``set_epoch`` groups share one augmented image; a group must be loaded in a single batch.

    Args:
        labels: the labels, with an image root.
        tokenize: list of B expressions -> ids (B, T) int64 and mask (B, T) bool, True = real token.
        size: side of the square in pixels.
        preset: rules for images and boxes.
        transform: training augmentation.
        seed: seed of the augmentation.
    """

    def __init__(
        self,
        labels: LabelTable,
        tokenize: Tokenize,
        size: int,
        preset: Preset,
        *,
        transform: TrainTransform | None = None,
        seed: int = 0,
    ) -> None:
        self.labels = labels
        self.tokenize = tokenize
        self.transform = transform
        self.size = size
        self.preset = preset
        self.seed = seed
        self._boxes = labels.boxes(integer=preset.integer_boxes)
        self._names, self._image_of = labels.distinct_images()
        self._expressions = labels.table.column("expression")
        # In shared memory, so that persistent workers see a new epoch too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._leader = torch.arange(len(labels)).share_memory_()

    def set_epoch(self, epoch: int, leader: np.ndarray | None = None) -> None:
        """Set the epoch that the augmentation is drawn for; call this between epochs.

        Args:
            epoch: number of the epoch.
            leader: (N,) int64, for each row the row of the same image whose random draws it uses,
                from `group_by_image`; None keeps the current leaders, initially each row itself.
        """
        self._epoch.fill_(epoch)
        if leader is not None:
            self._leader.copy_(torch.from_numpy(leader))

    def __len__(self) -> int:
        return len(self._boxes)

    def __getitem__(self, row: int) -> Sample:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[Sample]:
        """Return the samples of a batch; a DataLoader prefers this to one call per row."""
        expressions = [self._expressions[int(row)].as_py() for row in rows]
        tokens, text_mask = self.tokenize(expressions)
        make = self._plain if self.transform is None else self._augmented
        drawn = make(rows, expressions)
        return [Sample(*one, tokens[i], text_mask[i], int(rows[i])) for i, one in enumerate(drawn)]

    def _plain(self, rows: Sequence[int], expressions: list[str]) -> list[Drawn]:
        loaded: dict[int, Square] = {}
        drawn = []
        for row in rows:
            key = int(self._image_of[row])
            if key not in loaded:
                loaded[key] = load_square(self._path(key), self.size, self.preset)
            pixels, mask, letterbox = loaded[key]
            target = torch.from_numpy(letterbox.to_square(self._boxes[row]))
            drawn.append((pixels, mask, target, key))
        return drawn

    def _augmented(self, rows: Sequence[int], expressions: list[str]) -> list[Drawn]:
        assert self.transform is not None
        loaded: dict[int, Image.Image] = {}
        groups: dict[int, list[int]] = {}  # positions in the batch, by leader
        for place, row in enumerate(rows):
            groups.setdefault(int(self._leader[row]), []).append(place)
        drawn: dict[int, Drawn] = {}
        for leader, places in groups.items():
            key = int(self._image_of[leader])
            if key not in loaded:
                loaded[key] = read_image(self._path(key), exif=self.preset.exif)
            seed = draw_seed(self.seed, int(self._epoch), leader)
            boxes, texts = self._boxes[[rows[p] for p in places]], [expressions[p] for p in places]
            pixels, mask, placed = self.transform(loaded[key], boxes, texts, seed=seed)
            # Each group has its own augmented image, whose key is negative: from the leader's row.
            for place, box in zip(places, placed, strict=True):
                drawn[place] = (pixels, mask, box, -1 - leader)
        return [drawn[place] for place in range(len(rows))]

    def _path(self, key: int) -> Path:
        return self.labels.image_path(self._names[key])


def draw_seed(*numbers: int) -> int:
    """Combine numbers into one seed in [0, 2^63); adjacent numbers give unrelated seeds."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def collate(samples: Sequence[Sample]) -> Batch:
    """Collate samples into a batch that holds each distinct image once."""
    place: dict[int, int] = {}
    first: list[Sample] = []
    for sample in samples:
        if sample.image_key not in place:
            place[sample.image_key] = len(first)
            first.append(sample)
    return Batch(
        images=torch.stack([sample.pixels for sample in first]),
        pixel_mask=torch.stack([sample.mask for sample in first]),
        image_index=torch.tensor([place[sample.image_key] for sample in samples]),
        tokens=torch.stack([sample.tokens for sample in samples]),
        text_mask=torch.stack([sample.text_mask for sample in samples]),
        target=torch.stack([sample.target for sample in samples]),
        row=torch.tensor([sample.row for sample in samples]),
    )


def shuffle_rows(n: int, *, seed: int = 0, epoch: int = 0) -> np.ndarray:
    """Return a permutation of n rows, (n,) int64, that depends only on (seed, epoch)."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def group_by_image(
    image_of: np.ndarray, size: int, batch: int, *, seed: int = 0, epoch: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return a row order that keeps labels of an image together, in groups of at most ``size``.

    Groups and their members are drawn anew in each epoch and depend only on (seed, epoch). A batch
    has exactly ``batch`` labels (the last may have fewer) and whole groups: the first of the
    upcoming groups that fits is taken; if none fits, one is split.

    Args:
        image_of: (N,) int64, index of each label's image.
        size: largest number of labels in a group.
        batch: number of labels in a batch.
        seed: seed of the run.
        epoch: number of the epoch, from 0.

    Returns:
        The rows (N,) int64 in their order, and for each row its leader (N,) int64, the first row of
        its group.

    Example:
        >>> rows, leader = group_by_image(np.array([0, 1, 0, 1]), 2, 2)
        >>> bool((leader[rows[::2]] == leader[rows[1::2]]).all())
        True
    """
    draw = np.random.default_rng([seed, epoch])
    count = len(image_of)
    shuffled = draw.permutation(count)
    by_image = shuffled[np.argsort(image_of[shuffled], kind="stable")]
    place = np.arange(count)
    begins = np.append(True, np.diff(image_of[by_image]) != 0)[:count]  # (N,), start of an image
    starts = np.flatnonzero((place - np.maximum.accumulate(place * begins)) % size == 0)
    counts = np.diff(starts, append=count)
    groups = _filling(draw.permutation(len(counts)), counts, batch)
    number = np.repeat(np.arange(len(groups)), counts[groups])  # (N,), group by place in the epoch
    shift = np.repeat(np.cumsum(counts[groups]) - counts[groups] - starts[groups], counts[groups])
    rows = by_image[place - shift]
    first = np.append(True, np.diff(number) != 0)[:count] | (place % batch == 0)
    leader = np.empty(count, dtype=np.int64)
    leader[rows] = rows[np.maximum.accumulate(place * first)]
    return rows, leader


def _filling(order: np.ndarray, counts: np.ndarray, batch: int) -> np.ndarray:
    """Reorder groups so that few of them straddle a multiple of ``batch`` labels."""
    coming, waiting = iter(order.tolist()), deque[int]()
    taken: list[int] = []
    room = batch
    while len(taken) < len(order):
        while len(waiting) < _LOOK_AHEAD and (group := next(coming, None)) is not None:
            waiting.append(group)
        fitting = (i for i, group in enumerate(waiting) if counts[group] <= room)
        chosen = next(fitting, 0)
        taken.append(waiting[chosen])
        del waiting[chosen]
        room = (room - int(counts[taken[-1]])) % batch or batch
    return np.array(taken, dtype=np.int64)
