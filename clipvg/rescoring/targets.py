"""Expressions, target boxes and sources of a rescoring pass, and the comparison with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipvg.data.letterbox import Square, square_boxes
from clipvg.errors import InputError
from clipvg.labels.pairs import group_numbers
from clipvg.model import GroundingModel
from clipvg.ops import box_reliability
from clipvg.rescoring.plan import Plan, in_one_piece
from clipvg.similarity import IOU, compare_in_square

_NAMED_ROWS = 5


@dataclass(frozen=True)
class ReadableLabels:
    """Labels whose images could be read."""

    rows: np.ndarray  # (R,) int64 rows of the labels
    image: np.ndarray  # (R,) int64, position of each label's image in ``squares``
    squares: list[Square]  # the images


class Targets:
    """Expressions, boxes and sources of the N labels of a pass; errors use `row_names` (N,)."""

    def __init__(self, plan: Plan, row_names: np.ndarray | None) -> None:
        self._labels = labels = plan.labels
        self.row_names = np.arange(len(labels)) if row_names is None else row_names
        self._expressions = in_one_piece(labels.table.column("expression"))
        sources = labels.encoded_sources()
        self.group = sources.indices.to_numpy().astype(np.int64)  # (N,), number of the source
        self.num_groups = max(1, len(sources.dictionary))

    def expressions(self, rows: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the distinct expressions of rows, and each row's (R,) index among them."""
        texts = self.texts(rows)
        return list(dict.fromkeys(texts)), group_numbers(texts)

    def texts(self, rows: np.ndarray) -> list[str]:
        """Return the expressions of rows (R,)."""
        return list(self._expressions.take(rows).to_pylist())

    def boxes(self, model: GroundingModel, part: ReadableLabels) -> Tensor:
        """Return the labels' boxes in the square, (R, 4) float32 cxcywh on the model's device."""
        pixels = self._labels.boxes(integer=model.preset.integer_boxes, rows=part.rows)
        sizes = np.array([(box.width, box.height) for _, _, box in part.squares])[part.image]
        boxes = square_boxes(pixels, sizes, model.backbone.image_size)
        return torch.from_numpy(boxes).to(model.device)


def check_finite(boxes: Tensor, names: Sequence[str], rows: np.ndarray) -> None:
    """Raise InputError, with names and rows, if boxes (n, B, 4) of models are not finite."""
    finite = torch.isfinite(boxes).all(-1)
    if bool(finite.all()):
        return
    for name, good in zip(names, finite.cpu().numpy(), strict=True):
        bad = np.sort(rows[~good])
        if bad.size:
            raise InputError(
                f"{name} predicts boxes that are not finite for label row(s) "
                f"{', '.join(map(str, bad[:_NAMED_ROWS]))}{', …' if bad.size > _NAMED_ROWS else ''}"
                "; its weights are damaged or its training diverged. Train it again with a lower "
                "learning rate or clip_norm."
            )


def score_boxes(
    predicted: Tensor, target: Tensor, *, group: Tensor, num_groups: int, bins: int, similarity: str
) -> tuple[Tensor, Tensor]:
    """Return reliability (n, R) of predicted (n, R, 4) boxes and its histogram by group.

    Boxes are cxcywh in the square, targets (R, 4), groups (R,) int64, histograms (n, num_groups,
    bins) int64. IoU runs on the boxes' device, as one operator; other similarities run in NumPy.
    """
    if similarity == IOU:
        return box_reliability(predicted, target, group=group, num_groups=num_groups, bins=bins)
    boxes, given, place = predicted.float().cpu().numpy(), target.float().cpu().numpy(), group.cpu()
    found = np.stack([compare_in_square(similarity, each, given) for each in boxes])
    cell = np.minimum((found * np.float32(bins)).astype(np.int64), bins - 1)
    cell += bins * place.numpy()
    counts = np.stack([np.bincount(row, minlength=num_groups * bins) for row in cell])
    counts = counts.reshape(len(found), num_groups, bins)
    return torch.from_numpy(found), torch.from_numpy(counts).to(predicted.device)
