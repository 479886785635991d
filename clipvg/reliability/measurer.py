"""What gives reliability: the Measurer protocol, and a grounding model as a measurer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from clipvg.labels import LabelTable

if TYPE_CHECKING:
    from clipvg.model import GroundingModel
    from clipvg.reliability.engine import EngineConfig
    from clipvg.reliability.matrix import ScoreMatrix
    from clipvg.training import FeatureCache

OnError = Literal["null", "raise"]


@dataclass(frozen=True)
class Context:
    """What a measurer may use beside the labels, and how it should run.

    Attributes:
        engine: how grounding models run: batch, precision, threads.
        on_error: "null" leaves a label whose image cannot be read unscored, with the reason;
            "raise" stops.
        progress: show a progress bar.
        scores: scores of the grounding measurers, for measures that require "scores".
        history: per-row losses by epoch (epochs, N), for measures that require "history".
        reference: what measures that require "reference" compare with.
        reasons: filled in by the measurer: row -> why the label is not scored.
    """

    engine: EngineConfig | None = None
    on_error: OnError = "null"
    progress: bool = False
    scores: ScoreMatrix | None = None
    history: np.ndarray | None = None
    reference: Any = None
    reasons: dict[int, str] = field(default_factory=dict)

    @property
    def batch_size(self) -> int:
        """Labels a batch of measurers that run models themselves."""
        return (self.engine and self.engine.batch_size) or 64


@runtime_checkable
class Measurer(Protocol):
    """Anything that gives every label a reliability.

    Attributes:
        name: name of its score column, ``reliability.NAME``.
        requires: which of "images", "history", "scores", "reference" it needs.
    """

    name: str
    requires: frozenset[str]

    def measure(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return float32 (N,) in [0, 1], higher is better, NaN where not scored."""
        ...


@runtime_checkable
class BoxPredictor(Protocol):
    """A measurer that can also say where it would place the box of a label."""

    def predict(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return float32 (N, 4) xyxy pixels of the picture; NaN where it cannot be read."""
        ...


class GroundingMeasurer:
    """Reliability = IoU of a grounding model's box with the pseudo-box.

    r = IoU(M(image, expression), box), CLIP-VG (arXiv 2305.08685), both boxes in the letterboxed
    square. `score_labels` runs several of these in one pass over the images.

    Args:
        model: the grounding model M.
        name: name of the score column.
        trained_on: sources it was trained on; ``model.config.trained_on`` when None.
        features: cache over the model's towers to use and extend, in place of the engine; a picture
            that cannot be read is an error then.
    """

    requires = frozenset({"images"})

    def __init__(
        self,
        model: GroundingModel,
        name: str = "iou",
        *,
        trained_on: Iterable[str] | None = None,
        features: FeatureCache | None = None,
    ) -> None:
        self.model, self.features = model, features
        self.name = name
        self.trained_on = tuple(model.config.trained_on if trained_on is None else trained_on)

    def measure(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return the IoU of each label, float32 (N,); NaN where its image cannot be read."""
        if self.features is not None:
            from clipvg.training import evaluate

            return evaluate(self.model, labels, features=self.features).iou
        from clipvg.reliability.rescore import score_models

        return score_models(labels, {self.name: self.model}, context)[0]

    def predict(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return the model's box for each label, see `BoxPredictor`."""
        from clipvg.data.letterbox import Letterbox
        from clipvg.training.evaluate import predict_labels

        found = predict_labels(
            self.model,
            labels,
            batch_size=context.batch_size,
            features=self.features,
            on_error=context.on_error,
            progress=context.progress,
        )
        boxes = np.full((len(labels), 4), np.nan, np.float32)
        side = self.model.backbone.image_size
        sizes, place = np.unique(found.sizes, axis=0, return_inverse=True)
        for i, (width, height) in enumerate(sizes.tolist()):
            rows = place == i
            boxes[rows] = Letterbox(width, height, side).to_image(found.boxes[rows])
        return boxes
