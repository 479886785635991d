"""The labels' side of a pass: expressions, target boxes, sources, and what can be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from clipvg.data.letterbox import Square, square_boxes
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.rescoring.images import Decoded
from clipvg.rescoring.plan import in_one_piece

if TYPE_CHECKING:
    from clipvg.model import GroundingModel

_NAMED_ROWS = 5


@dataclass(frozen=True)
class ReadableLabels:
    """Labels whose images could be read.

    Attributes:
        rows: (R,) int64 rows of the labels.
        image: (R,) int64, each label's place in ``squares``.
        squares: the images.
    """

    rows: np.ndarray
    image: np.ndarray
    squares: list[Square]


class Targets:
    """What the labels of a pass ask for.

    Args:
        labels: N labels.
        on_error: "null" notes why an image cannot be read, "raise" raises it.
        row_names: (N,) what errors call the rows; their numbers when None.

    Attributes:
        group: (N,) int64, number of each label's source.
        num_groups: number of sources.
    """

    def __init__(
        self,
        labels: LabelTable,
        on_error: Literal["null", "raise"],
        row_names: np.ndarray | None,
    ) -> None:
        self._labels, self._on_error = labels, on_error
        self._row_names = np.arange(len(labels)) if row_names is None else row_names
        self._expressions = in_one_piece(labels.table.column("expression"))
        sources = labels.encoded_sources()
        self.group = sources.indices.to_numpy().astype(np.int64)
        self.num_groups = max(1, len(sources.dictionary))

    def expressions(self, rows: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the distinct expressions of rows, and each row's (R,) index among them."""
        texts = self._expressions.take(rows).to_pylist()
        place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        return list(place), np.array([place[text] for text in texts])

    def boxes(self, model: GroundingModel, part: ReadableLabels) -> Tensor:
        """Return the labels' boxes in the square, (R, 4) float32 cxcywh on the model's device."""
        pixels = self._labels.boxes(integer=model.preset.integer_boxes, rows=part.rows)
        sizes = np.array([(box.width, box.height) for _, _, box in part.squares])[part.image]
        boxes = square_boxes(pixels, sizes, model.backbone.image_size)
        return torch.from_numpy(boxes).to(model.device)

    def unreadable(self, ready: Decoded) -> dict[int, str]:
        """Return why rows of a chunk have no image, or raise it."""
        reasons = {}
        for i, image in enumerate(ready.images):
            if isinstance(image, InputError):
                if self._on_error == "raise":
                    raise image
                rows = ready.chunk.rows[ready.chunk.image_of_row == i]
                reasons.update(dict.fromkeys(rows.tolist(), str(image)))
        return reasons

    def check_finite(self, boxes: Tensor, names: list[str], rows: np.ndarray) -> None:
        """Raise InputError where a predicted box (n, B, 4) is not finite."""
        finite = torch.isfinite(boxes).all(-1)
        if bool(finite.all()):
            return
        for name, good in zip(names, finite.cpu().numpy(), strict=True):
            bad = np.sort(self._row_names[rows[~good]])
            if bad.size:
                raise InputError(
                    f"measurer {name!r} predicts boxes that are not finite for label row(s) "
                    f"{', '.join(map(str, bad[:_NAMED_ROWS]))}"
                    f"{', …' if bad.size > _NAMED_ROWS else ''}; its weights are damaged or its "
                    "training diverged. Train it again with a lower learning rate or clip_norm."
                )
