"""Batches of labels with model inputs, features and boxes, each computed once, when asked for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import TypeVar, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipvg.data.letterbox import Letterbox, make_square, square_boxes
from clipvg.features.keys import image_key, pixels_key, text_key
from clipvg.features.texts import TextStore
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel
from clipvg.model.fusion import Features
from clipvg.rescoring.targets import check_finite

TEXT_BYTES = 256 << 20  # text features kept by a pass; if more, each batch is encoded anew

T = TypeVar("T")
K = TypeVar("K", "Chunk", "Batch")


class Memo:
    """A cache of values by key, each computed when first asked for."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, object] = {}

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the value of a key, computed if it is not there yet."""
        if key not in self._kept:
            self._kept[key] = compute()
        return cast(T, self._kept[key])


def once(
    key: Callable[[GroundingModel], Hashable],
) -> Callable[[Callable[[K, GroundingModel], T]], Callable[[K, GroundingModel], T]]:
    """Decorate a method that takes a model to run once for all models of equal `key`."""

    def decorate(method: Callable[[K, GroundingModel], T]) -> Callable[[K, GroundingModel], T]:
        @wraps(method)
        def get(self: K, model: GroundingModel) -> T:
            return self.memo.get((method.__name__, key(model)), lambda: method(self, model))

        return get

    return decorate


def _image_place(model: GroundingModel) -> Hashable:
    return image_key(model), model.device


def _text_place(model: GroundingModel) -> Hashable:
    return text_key(model), model.device


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some decoded images and all labels on them."""

    labels: LabelTable  # the whole table of the pass
    rows: np.ndarray  # (R,) rows of the labels, grouped by image
    image: np.ndarray  # (R,) position in `images` of each row's image
    # each image, by whether the EXIF orientation was applied
    images: Sequence[dict[bool, Image.Image]]
    shared: Memo  # values of the whole pass
    row_names: np.ndarray  # (N,) names of the rows in errors
    memo: Memo = field(default_factory=Memo)  # values of this chunk

    @once(pixels_key)
    def squares(self, model: GroundingModel) -> tuple[Tensor, Tensor, list[Letterbox]]:
        """Return a model's pixels (U, 3, S, S), padding mask (U, S, S) and letterboxes."""
        size, preset = model.backbone.image_size, model.preset
        made = [make_square(image[preset.exif], size, preset) for image in self.images]
        pixels, masks, boxes = zip(*made, strict=True)
        return torch.stack(pixels), torch.stack(masks), list(boxes)

    @once(_image_place)
    def encoded(self, model: GroundingModel) -> tuple[Tensor, Tensor]:
        """Return image features (U, 1 + P, F) and ignored patches (U, P)."""
        pixels, mask, _ = self.squares(model)
        features = model.encode_images(pixels.to(model.device))
        return features, model.patch_mask(mask).to(model.device)


class Batch:
    """B labels of one chunk."""

    def __init__(self, chunk: Chunk, part: slice) -> None:
        self.chunk = chunk
        self.rows = chunk.rows[part]  # (B,) rows of the labels
        self.image = chunk.image[part]  # (B,) int64 position of each row's image in the chunk
        self.memo = Memo()

    @property
    def labels(self) -> LabelTable:
        """The whole table of the pass."""
        return self.chunk.labels

    @once(id)
    def target(self, model: GroundingModel) -> Tensor:
        """Return the labels' boxes (B, 4), cxcywh of the model's letterboxed square."""
        integer = model.preset.integer_boxes
        boxes = self.chunk.shared.get(
            ("boxes", integer), lambda: self.labels.boxes(integer=integer)
        )[self.rows]
        sizes = np.array([(box.width, box.height) for box in self.chunk.squares(model)[2]])
        made = square_boxes(boxes, sizes[self.image], model.backbone.image_size)
        return torch.from_numpy(made).to(model.device)

    def index(self, model: GroundingModel) -> Tensor:
        """Return the position of each row's image in the chunk's features, (B,) int64."""
        return torch.from_numpy(self.image.astype(np.int64)).to(model.device)

    @once(_text_place)
    def text(self, model: GroundingModel) -> tuple[Tensor, Tensor]:
        """Return text features (B, T, E) and mask (B, T), True for a real token."""
        store, numbers = self.chunk.shared.get(
            ("texts", _text_place(model)), lambda: _text_store(model, self.labels)
        )
        features, mask = store.take(torch.from_numpy(numbers[self.rows]))
        features, mask = features.to(model.device), mask.to(model.device)
        return features if features.is_floating_point() else model.encode_text(features), mask

    @once(id)
    def sequence(self, model: GroundingModel) -> tuple[Tensor, Tensor, Tensor]:
        """Return the input of the fusion encoder: tokens, positions, mask of kept tokens."""
        return model.sequence(self.features(model))

    @once(id)
    def state(self, model: GroundingModel) -> Tensor:
        """Return the state of [REG] after the last layer, (B, D) float32."""
        return model.state(self.features(model)).float()

    def features(self, model: GroundingModel) -> Features:
        """Return the tower features of the images and texts."""
        features, ignored = self.chunk.encoded(model)
        used, place = self.index(model).unique(return_inverse=True)  # project no other images
        return Features(features[used], ignored[used], *self.text(model), place)

    @once(id)
    def boxes(self, model: GroundingModel) -> Tensor:
        """Return the model's boxes (B, 4) float32, cxcywh of the square; raise if not finite."""
        boxes = model.head(self.state(model)).float()
        check_finite(boxes[None], ["a model"], self.chunk.row_names[self.rows])
        return boxes


def _text_store(model: GroundingModel, labels: LabelTable) -> tuple[TextStore, np.ndarray]:
    expressions = labels.expressions
    store = TextStore(model, model.device, TEXT_BYTES)
    store.cover(expressions)
    return store, store.indices(expressions)
