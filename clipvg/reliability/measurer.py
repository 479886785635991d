"""The `Measurer` protocol for reliability, and a grounding model as a measurer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.similarity import IOU, compare_in_square

if TYPE_CHECKING:
    from clipvg.model import GroundingModel
    from clipvg.reliability.matrix import ScoreMatrix
    from clipvg.rescoring import EngineConfig
    from clipvg.training import FeatureCache

OnError = Literal["null", "raise"]


@dataclass(frozen=True, eq=False)
class Scores:
    """A measurer's scores of N labels.

    Attributes:
        values: (N,) float32 reliability in [0, 1], higher is better, NaN where not scored.
        reasons: row of a label that is not scored -> why.
    """

    values: np.ndarray
    reasons: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What a measurer may use besides the labels, and how it should run.

    Attributes:
        engine: how grounding models run: batch, precision, threads.
        on_error: "null" leaves a label whose image cannot be read unscored, with the reason;
            "raise" stops.
        progress: show a progress bar.
        scores: scores of the grounding measurers, for measures that require "scores".
        history: per-row losses by epoch (epochs, N), for measures that require "history".
        reference: trusted labels or features (M, K), for measures that require "reference".
    """

    engine: EngineConfig | None = None
    on_error: OnError = "null"
    progress: bool = False
    scores: ScoreMatrix | None = None
    history: np.ndarray | None = None
    reference: LabelTable | np.ndarray | None = None

    @property
    def batch_size(self) -> int:
        """Labels per batch, for measurers that run models themselves."""
        return (self.engine and self.engine.batch_size) or 64


@runtime_checkable
class Measurer(Protocol):
    """Anything that gives every label a reliability."""

    @property
    def name(self) -> str:
        """Name of its score column, ``reliability.NAME``."""

    @property
    def requires(self) -> frozenset[str]:
        """Which of "images", "history", "scores", "reference" it needs."""

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        """Score every label."""


@runtime_checkable
class BoxPredictor(Protocol):
    """A measurer that can also predict the box of a label."""

    def predict(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return float32 (N, 4) xyxy pixels of the image; NaN where it cannot be read."""


class GroundingMeasurer:
    """Reliability = IoU of a grounding model's box with the pseudo-box.

    r = IoU(M(image, expression), box), CLIP-VG (arXiv 2305.08685), both boxes in the letterboxed
    square, or another similarity of them. `score_labels` runs several of these in one pass over the
    images.

    Args:
        model: the grounding model M.
        name: name of the score column.
        trained_on: sources it was trained on; ``model.config.trained_on`` when None.
        features: feature cache of the model's towers to use and extend, instead of the engine; an
            image that cannot be read is an error then.
        similarity: name of a similarity, see `clipvg.similarity`; that of the context's engine when
            None.
    """

    requires = frozenset({"images"})

    def __init__(
        self,
        model: GroundingModel,
        name: str = "iou",
        *,
        trained_on: Iterable[str] | None = None,
        features: FeatureCache | None = None,
        similarity: str | None = None,
    ) -> None:
        self.model = model
        self.features = features
        self.name = name
        self.similarity = similarity
        self.trained_on = tuple(model.config.trained_on if trained_on is None else trained_on)

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        """Return the reliability of each label; NaN where its image cannot be read."""
        from clipvg.rescoring import EngineConfig

        engine = context.engine or EngineConfig()
        engine = replace(engine, similarity=self.similarity or engine.similarity)
        if self.features is not None:
            return Scores(self._from_features(labels, self.features, engine.similarity))
        from clipvg.rescoring.shards import score_models

        found, reasons = score_models(
            labels,
            {self.name: self.model},
            engine,
            on_error=context.on_error,
            progress=context.progress,
        )
        return Scores(found[0], reasons)

    def _from_features(
        self, labels: LabelTable, features: FeatureCache, similarity: str
    ) -> np.ndarray:
        from clipvg.training import evaluate, predict_labels

        if similarity == IOU:
            return evaluate(self.model, labels, features=features).iou
        found = predict_labels(self.model, labels, features=features)
        return compare_in_square(similarity, found.boxes, found.target)

    def predict(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return the model's box for each label, see `BoxPredictor`."""
        from clipvg.data.letterbox import image_boxes
        from clipvg.features import CacheOptions
        from clipvg.training.evaluate import predict_labels

        found = predict_labels(
            self.model,
            labels,
            batch_size=context.batch_size,
            features=self.features,
            reading=CacheOptions(on_error=context.on_error, progress=context.progress),
        )
        return image_boxes(found.boxes, found.sizes, self.model.backbone.image_size)


def measure(measurer: Measurer, labels: LabelTable, context: Context) -> Scores:
    """Run one measurer and check what it returns.

    Raises:
        InputError: the context lacks what the measurer requires, or it returned no `Scores` of
            (N,) numbers in [0, 1].
    """
    offered = {"history": context.history, "scores": context.scores, "reference": context.reference}
    lacking = sorted(need for need in measurer.requires if offered.get(need, True) is None)
    if lacking:
        raise InputError(
            f"measurer {measurer.name!r} requires {', '.join(lacking)}, which this call does not "
            "have; pass it in the Context."
        )
    return checked(measurer, measurer.measure(labels, context), len(labels))


def checked(measurer: Measurer, scores: Scores, num_labels: int) -> Scores:
    """Return a measurer's scores as float32; raise unless they are (N,), in [0, 1] or NaN."""
    if not isinstance(scores, Scores):
        raise InputError(
            f"measurer {measurer.name!r} returned a {type(scores).__name__}; expected "
            "Scores(values, reasons)."
        )
    values = np.asarray(scores.values, dtype=np.float32)
    wrong = ~np.isnan(values) & ~((values >= 0) & (values <= 1))
    if values.shape != (num_labels,) or wrong.any():
        what = f"{int(wrong.sum())} value(s) outside [0, 1]" if wrong.any() else f"{values.shape}"
        raise InputError(
            f"measurer {measurer.name!r} returned {what}; expected ({num_labels},) numbers in "
            "[0, 1], NaN where not scored."
        )
    return Scores(values, scores.reasons)


def join_reasons(parts: Iterable[Mapping[int, str]]) -> dict[int, str]:
    """Merge reasons by row; of several for one label the first is kept."""
    joined: dict[int, str] = {}
    for part in parts:
        for row, why in part.items():
            joined.setdefault(row, why)
    return joined
