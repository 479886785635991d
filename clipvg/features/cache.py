"""Cache of the frozen towers' features for label tables, and an encoder for augmented batches."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from clipvg.data.letterbox import square_boxes
from clipvg.features.images import CacheOptions, ImageStore
from clipvg.features.keys import image_key, text_key, token_key
from clipvg.features.texts import TextStore
from clipvg.model.fast.towers import can_pack, encode_texts
from clipvg.model.fusion import Features
from clipvg.model.tokenizer import real_lengths
from clipvg.ops.linear import fast_cpu

if TYPE_CHECKING:
    from clipvg.data.dataset import Batch
    from clipvg.labels import LabelTable
    from clipvg.model.grounder import GroundingModel

Against = Literal["box", "truth"]


@dataclass
class FeatureBatch:
    """B labels on U distinct images, as features of the frozen towers.

    Attributes:
        image_features: (U, 1 + P, F) float32, or the dtype of mixed precision.
        patch_ignored: (U, P) bool, True for a patch of padding.
        image_index: (B,) int64, row of `image_features` with each label's image.
        text: (B, T, E) text features of the same dtype, or (B, T) int64 token ids.
        text_mask: (B, T) bool, True for a real token.
        target: (B, 4) float32 cxcywh, normalised to the square.
        row: (B,) int64, row of the label in its table.
    """

    image_features: Tensor
    patch_ignored: Tensor
    image_index: Tensor
    text: Tensor
    text_mask: Tensor
    target: Tensor
    row: Tensor

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> FeatureBatch:
        """Return the batch on another device."""
        moved = {k: t.to(device, non_blocking=non_blocking) for k, t in vars(self).items()}
        return FeatureBatch(**moved)

    def select(self, rows: Tensor) -> FeatureBatch:
        """Return the labels at some rows (n,) int64 of the batch, and the images that they need."""
        index = self.image_index[rows]
        used, index = index.unique(return_inverse=True)
        images = self.image_features.index_select(0, used), self.patch_ignored[used], index
        rest = (self.text, self.text_mask, self.target, self.row)
        return FeatureBatch(*images, *(part[rows] for part in rest))

    def predict(self, model: GroundingModel) -> Tensor:
        """Return the model's boxes for this batch: (B, 4) cxcywh in [0, 1]."""
        text = self.text if self.text.is_floating_point() else model.encode_text(self.text)
        image, ignored = self.image_features, self.patch_ignored
        return model.fuse(Features(image, ignored, text, self.text_mask, self.image_index))


class FeatureCache:
    """Cache of the features of distinct images and distinct expressions.

    One cache serves any number of label tables with the same frozen towers: `cover` computes
    missing features, `view` gives a table's batches. Image features are kept in memory or, with a
    folder, in a memory-mapped file that later runs reuse; its name is a hash of `image_key`, the
    dtype, and the path, size and modification time of every image. Files are written atomically.

    Args:
        model: model whose towers and preset are used.
        labels: table to cover immediately.
        options: where the features are kept and how images are read.

    Raises:
        CacheTooLargeError: the image features exceed `max_bytes`; the message gives both sizes.
        InputError: an image cannot be read.
    """

    def __init__(
        self,
        model: GroundingModel,
        labels: LabelTable | None = None,
        options: CacheOptions | None = None,
    ) -> None:
        self._model = model
        self._key = _batch_key(model)
        options = options or CacheOptions()
        self._images = ImageStore(model, options)
        self._texts = TextStore(model, self._images.device, options.max_bytes)
        if labels is not None:
            self.cover(labels)

    @property
    def nbytes(self) -> int:
        """Size of the image features in bytes."""
        return self._images.nbytes

    def cover(self, labels: LabelTable) -> None:
        """Compute the features of the table's images and expressions that are not cached yet."""
        self._images.cover(_paths(labels))
        self._texts.cover(labels.expressions)

    def view(self, labels: LabelTable, *, against: Against = "box") -> CachedLabels:
        """Cover a table, and return its labels as cached features.

        Args:
            labels: the table.
            against: which boxes are the targets: the labels' own ("box"), or the true ones
                ("truth"; NaN where there is none).
        """
        self.cover(labels)
        _, image_of = labels.distinct_images()
        images = self._images.indices(_paths(labels))[image_of]
        texts = self._texts.indices(labels.expressions)
        integer = self._model.preset.integer_boxes
        given = labels.boxes(integer=integer) if against == "box" else labels.truth()
        sizes = self._images.sizes[images]
        target = square_boxes(given, sizes, self._model.backbone.image_size)
        image, text, boxes = map(torch.from_numpy, (images, texts, target))
        return CachedLabels(self._images, self._texts, image, text, boxes, sizes)

    def fits(self, model: GroundingModel) -> bool:
        """Return whether the model's own towers and preset would give the same batches."""
        return model.frozen_images and self._key == _batch_key(model)


@dataclass(frozen=True, eq=False)
class CachedLabels:
    """A table's N labels, whose features are in a `FeatureCache`, by row."""

    images: ImageStore
    texts: TextStore
    image_of: Tensor  # (N,) int64 index of each label's image in its store
    text_of: Tensor  # (N,) int64 likewise
    target: Tensor  # (N, 4) float32 cxcywh, normalised to the square
    sizes: np.ndarray  # (N, 2) int64 image sizes (width, height) in pixels

    def __len__(self) -> int:
        return len(self.target)

    def batch(
        self, rows: np.ndarray | Sequence[int], *, texts: np.ndarray | None = None
    ) -> FeatureBatch:
        """Return the features and targets of some rows, with the texts of these or other rows."""
        row = torch.as_tensor(rows)
        distinct, index = self.image_of[row].unique(return_inverse=True)
        features, ignored = self.images.take(distinct)
        text, mask = self.texts.take(self.text_of[row if texts is None else torch.as_tensor(texts)])
        return FeatureBatch(features, ignored, index, text, mask, self.target[row], row)

    def reasons(self) -> list[str | None]:
        """Return for each label why its image could not be read, or None if it could."""
        return [self.images.errors.get(image) for image in self.image_of.tolist()]


class Encoder:
    """Encodes a batch without gradients: each distinct image once, on a CPU each real token once.

    Args:
        model: model with a frozen image tower.
        dtype: dtype of the towers; None keeps theirs. They are converted once, whereas autocast
            would convert all their weights in every step.
    """

    def __init__(self, model: GroundingModel, dtype: torch.dtype | None = None) -> None:
        self._model = model
        self._towers = model.backbone
        if dtype is not None:
            self._towers = copy.deepcopy(model.backbone).to(dtype)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> FeatureBatch:
        """Return the features of a batch; text stays token ids unless the text tower is frozen."""
        model, towers = self._model, self._towers
        length = max(1, int(real_lengths(batch.text_mask).max()))
        tokens, mask = batch.tokens[:, :length], batch.text_mask[:, :length]
        pixels = batch.images.to(towers.clip.visual.conv1.weight.dtype)
        with fast_cpu():
            return FeatureBatch(
                towers.image_features(pixels),
                model.patch_mask(batch.pixel_mask),
                batch.image_index,
                self._texts(tokens, mask) if model.frozen_text else tokens,
                mask,
                batch.target,
                batch.row,
            )

    def _texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return text features (B, T, E), on a CPU with zeros after the last real token."""
        if tokens.device.type != "cpu" or not can_pack(self._towers):
            return self._towers.text_features(tokens)
        lengths = real_lengths(mask).clamp(min=1)
        found = encode_texts(self._towers, tokens, lengths, packed=True)
        return pad_sequence(found, batch_first=True)


def _paths(labels: LabelTable) -> list[Path]:
    return [labels.image_path(name) for name in labels.distinct_images()[0]]


def _batch_key(model: GroundingModel) -> tuple[str, str, bool]:
    """Return what determines a cache's batches: features, or token ids, and targets."""
    text = text_key(model) if model.frozen_text else token_key(model)
    return image_key(model), text, model.preset.integer_boxes
