"""Labels in batches, with what models make of them; everything is computed once, when asked for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from clipvg.data.letterbox import Letterbox, make_square
from clipvg.errors import InputError
from clipvg.features.keys import image_key, pixels_key, text_key
from clipvg.features.texts import TextStore
from clipvg.labels import LabelTable
from clipvg.model.fusion import Features

if TYPE_CHECKING:
    from PIL import Image

    from clipvg.model import GroundingModel

TEXT_BYTES = 256 << 20  # text features kept by one pass; above it, each batch is encoded anew

T = TypeVar("T")


class Memo:
    """Values by key, each computed when first asked for."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the value of a key."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]


class Chunk:
    """Some decoded images and all labels on them.

    Attributes:
        labels: the whole table of the pass.
        rows: (R,) rows of the labels, grouped by image.
        image: (R,) place in `images` of each row's image.
        images: the images, by whether the EXIF orientation was applied.
        memo: values of this chunk.
        shared: values of the whole pass.
        row_names: (N,) what errors call the rows.
    """

    def __init__(
        self,
        labels: LabelTable,
        rows: np.ndarray,
        image: np.ndarray,
        images: Sequence[dict[bool, Image.Image]],
        shared: Memo,
        row_names: np.ndarray,
    ) -> None:
        self.labels, self.rows, self.image, self.images = labels, rows, image, images
        self.shared, self.row_names = shared, row_names
        self.memo = Memo()

    def squares(self, model: GroundingModel) -> tuple[Tensor, Tensor, list[Letterbox]]:
        """Pixels (U, 3, S, S), padding mask (U, S, S) and letterboxes as a model sees them."""
        return self.memo.get(("squares", pixels_key(model)), lambda: self._squares(model))

    def _squares(self, model: GroundingModel) -> tuple[Tensor, Tensor, list[Letterbox]]:
        size, preset = model.backbone.image_size, model.preset
        made = [make_square(image[preset.exif], size, preset) for image in self.images]
        pixels, masks, boxes = zip(*made, strict=True)
        return torch.stack(pixels), torch.stack(masks), list(boxes)

    def encoded(self, model: GroundingModel) -> tuple[Tensor, Tensor]:
        """Image features (U, 1 + P, F) and ignored patches (U, P)."""
        key = ("encoded", image_key(model), model.device)
        return self.memo.get(key, lambda: self._encoded(model))

    def _encoded(self, model: GroundingModel) -> tuple[Tensor, Tensor]:
        pixels, mask, _ = self.squares(model)
        features = model.encode_images(pixels.to(model.device))
        return features, model.patch_mask(mask).to(model.device)


class Batch:
    """B labels of one chunk.

    Args:
        chunk: the chunk.
        part: which of its rows.

    Attributes:
        rows: (B,) rows of the labels.
        image: (B,) int64 place of each row's image in the chunk.
    """

    def __init__(self, chunk: Chunk, part: slice) -> None:
        self.chunk = chunk
        self.rows, self.image = chunk.rows[part], chunk.image[part]
        self.memo = Memo()

    @property
    def labels(self) -> LabelTable:
        """The whole table of the pass."""
        return self.chunk.labels

    def target(self, model: GroundingModel) -> Tensor:
        """The labels' boxes (B, 4), cxcywh of the model's letterboxed square."""
        return self.memo.get(("target", id(model)), lambda: self._target(model))

    def _target(self, model: GroundingModel) -> Tensor:
        integer = model.preset.integer_boxes
        boxes = self.chunk.shared.get(
            ("boxes", integer), lambda: self.labels.boxes(integer=integer)
        )[self.rows]
        letterboxes = self.chunk.squares(model)[2]
        made = np.empty((len(boxes), 4), dtype=np.float32)
        for i in np.unique(self.image):
            here = self.image == i
            made[here] = letterboxes[i].to_square(boxes[here])
        return torch.from_numpy(made).to(model.device)

    def index(self, model: GroundingModel) -> Tensor:
        """Place of each row's image in the chunk's features, (B,) int64."""
        return torch.from_numpy(self.image.astype(np.int64)).to(model.device)

    def text(self, model: GroundingModel) -> tuple[Tensor, Tensor]:
        """Text features (B, T, E) and mask (B, T), True for a real token."""
        key = ("text", text_key(model), model.device)
        return self.memo.get(key, lambda: self._text(model))

    def _text(self, model: GroundingModel) -> tuple[Tensor, Tensor]:
        store, numbers = self.chunk.shared.get(
            ("texts", text_key(model), model.device), lambda: _text_store(model, self.labels)
        )
        features, mask = store.take(torch.from_numpy(numbers[self.rows]))
        features, mask = features.to(model.device), mask.to(model.device)
        return features if features.is_floating_point() else model.encode_text(features), mask

    def sequence(self, model: GroundingModel) -> tuple[Tensor, Tensor, Tensor]:
        """What the fusion encoder reads: tokens, positions, kept tokens."""
        return self.memo.get(("sequence", id(model)), lambda: self._sequence(model))

    def _sequence(self, model: GroundingModel) -> tuple[Tensor, Tensor, Tensor]:
        return model.sequence(self._features(model))

    def state(self, model: GroundingModel) -> Tensor:
        """State of [REG] after the last layer, (B, D)."""
        return self.memo.get(("state", id(model)), lambda: self._state(model))

    def _state(self, model: GroundingModel) -> Tensor:
        return model.state(self._features(model)).float()

    def _features(self, model: GroundingModel) -> Features:
        features, ignored = self.chunk.encoded(model)
        used, place = self.index(model).unique(return_inverse=True)  # project no other pictures
        return Features(features[used], ignored[used], *self.text(model), place)

    def boxes(self, model: GroundingModel) -> Tensor:
        """The model's boxes (B, 4) float32, cxcywh of the square.

        Raises:
            InputError: a box is not finite; names the rows.
        """
        return self.memo.get(("boxes", id(model)), lambda: self._boxes(model))

    def _boxes(self, model: GroundingModel) -> Tensor:
        boxes = model.head(self.state(model)).float()
        bad = ~torch.isfinite(boxes).all(dim=1)
        if bad.any():
            rows = self.chunk.row_names[self.rows[bad.cpu().numpy()]]
            raise InputError(
                f"a model predicts boxes that are not finite for label row(s) "
                f"{', '.join(map(str, rows[:5]))}{', …' if rows.size > 5 else ''}; its weights "
                "are damaged or its training diverged. Train it again with a lower learning rate."
            )
        return boxes


def _text_store(model: GroundingModel, labels: LabelTable) -> tuple[TextStore, np.ndarray]:
    expressions = labels.expressions
    store = TextStore(model, model.device, TEXT_BYTES)
    store.cover(expressions)
    return store, store.indices(expressions)
