"""Result of `predict`: for each expression a box, its score, and whether the object is present."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from clipvg.boxes import convert
from clipvg.errors import InputError


@dataclass(frozen=True, eq=False)
class Predictions(NDArrayOperatorsMixin):
    """Answers about one image, one for each expression, in order.

    Wherever an array is expected it acts as its boxes: ``np.asarray(found)``, ``len``, indexing,
    ``round``, NumPy arithmetic.

    Attributes:
        boxes: (N, 4) float32 pixels of the image, in `box_format`, clipped to the image.
        scores: (N,) float32, P(IoU of the box with the right one >= 0.5), given that what is
            described is in the image; NaN if scores were not requested.
        present: (N,) float32, P(what is described is in the image), with a prior of 1/2; NaN if
            scores were not requested.
        expressions: the N expressions.
        size: width and height of the image in pixels, as the model sees it.
        scored_by: origin of scores and present: "quality head", or a measure's name.
        box_format: "xyxy", "xywh" or "cxcywh".
        reasons: why an expression has no box (its numbers are NaN then); () if all have one.

    Example:
        >>> found = model.predict("street.jpg", ["man in red", "dog"])
        >>> found.boxes.shape, found.scores.shape, len(found)
        ((2, 4), (2,), 2)
    """

    boxes: np.ndarray
    scores: np.ndarray
    present: np.ndarray
    expressions: tuple[str, ...]
    size: tuple[int, int]
    scored_by: Mapping[str, str]
    box_format: str = "xyxy"
    reasons: tuple[str | None, ...] = ()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the boxes."""
        if copy is False and dtype not in (None, self.boxes.dtype):
            raise ValueError(f"boxes are {self.boxes.dtype}, which as {dtype} are a copy")
        return np.array(self.boxes, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Compute with the boxes, so that ``found - other`` and ``found >= 0`` are arrays."""
        if "out" in options:
            options["out"] = _arrays(options["out"])
        return getattr(ufunc, method)(*_arrays(inputs), **options)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.boxes[index]

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.boxes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the boxes, (N, 4)."""
        return self.boxes.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the boxes, float32."""
        return self.boxes.dtype

    def to_hf(self) -> list[dict[str, Any]]:
        """Return one dictionary per answer, as Hugging Face's zero-shot object detection does.

        Each has "score", "label" (the expression) and "box" with xmin, ymin, xmax, ymax in whole
        pixels; the highest score comes first.
        """
        corners = np.rint(convert(self.boxes, self.box_format, "xyxy")).astype(int)
        names = ("xmin", "ymin", "xmax", "ymax")
        found = [
            {"score": float(score), "label": text, "box": dict(zip(names, box, strict=True))}
            for score, text, box in zip(
                self.scores, self.expressions, corners.tolist(), strict=True
            )
        ]
        return sorted(found, key=lambda answer: -answer["score"])

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections``, whose ``class_name`` is the expression.

        Raises:
            InputError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise InputError("to_supervision needs supervision: pip install supervision") from None
        return supervision.Detections(
            xyxy=convert(self.boxes, self.box_format, "xyxy"),
            confidence=self.scores,
            class_id=np.arange(len(self)),
            data={"class_name": np.array(self.expressions, dtype=str), "present": self.present},
        )

    def round(self, decimals: int = 0) -> np.ndarray:
        """Return the boxes, rounded."""
        return self.boxes.round(decimals)


def _arrays(operands: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.boxes if isinstance(each, Predictions) else each for each in operands)
