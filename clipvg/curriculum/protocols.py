"""The `Learner` protocol, by which a curriculum trains, saves, judges and asks models."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.measurer import Context, Measurer, Scores
from clipvg.similarity import IOU, Similarity, compare

Model = TypeVar("Model")
Kept = TypeVar("Kept", covariant=True)
Metrics = Iterable[Mapping[str, object]]


class Fit(Protocol[Kept]):
    """Result of one training, such as `Fitted` or `clipvg.training.Fit`."""

    @property
    def model(self) -> Kept:
        """The trained model."""

    @property
    def teacher(self) -> Kept | None:
        """A model with the mean of the weights over the training, if any: see `Beyond.rounds`."""

    @property
    def metrics(self) -> Metrics:
        """Metrics of the training, kept beside the model."""

    @property
    def steps(self) -> int | None:
        """Optimizer steps of the training; None if the learner does not report them."""


@dataclass(frozen=True)
class Fitted(Generic[Model]):
    """Result of one training; see `Fit`."""

    model: Model
    teacher: Model | None = None
    metrics: Metrics = ()
    steps: int | None = None


class Learner(Protocol[Model]):
    """Trains models on labels, saves them in folders and makes measurers of them.

    Inherit from it and write `fit`, `measurer`, `save` and `load`; the rest has defaults. A class
    that has all the methods need not inherit. Trainings with equal arguments must give equal
    models. If measurers compare boxes by another similarity than IoU, set the learner's attribute
    `similarity` to its name or function, which the summary and the report mention.
    """

    @abstractmethod
    def fit(
        self,
        labels: LabelTable,
        *,
        weights: np.ndarray | None = None,
        init: Model | None = None,
        seed: int = 0,
        out: Path | None = None,
    ) -> Fit[Model]:
        """Train one model.

        Args:
            labels: N labels; their truth is never read.
            weights: (N,) float, batch loss = sum(w * l) / sum(w); all 1 when None.
            init: model whose weights training starts from; fresh when None.
            seed: seed of the initial weights, the order of the data and dropout.
            out: folder for checkpoints, from which the same call may resume.
        """

    @abstractmethod
    def measurer(self, model: Model) -> Measurer:
        """Return a trained model as a measurer, `BoxMeasurer` for example."""

    @abstractmethod
    def save(self, model: Model, folder: Path, *, trained_on: Sequence[str]) -> None:
        """Write a model, trained on labels of these sources, into an existing, empty folder."""

    @abstractmethod
    def load(self, folder: Path) -> Model:
        """Load a model that `save` wrote; it must predict exactly as it did."""

    def evaluate(self, model: Model, labels: LabelTable) -> float:
        """Return the performance of a model on labels, by their weights; higher is better.

        By default it is the share of labels with a reliability of at least 0.5: for IoU, Acc@0.5.
        """
        found = self.measurer(model).measure(labels, Context()).values
        return float(np.average(found >= 0.5, weights=labels.weights()))

    def fit_many(
        self,
        labels: LabelTable,
        keep: np.ndarray,
        *,
        init: Model | None = None,
        seed: int = 0,
        outs: Sequence[Path] | None = None,
        judge: Callable[[Model], float] | None = None,
    ) -> Sequence[Fit[Model]]:
        """Train K models; equals ``[fit(labels, weights=k) for k in keep]``, which is the default.

        Each row of `keep`, (K, N) bool, has the labels of one model, and each of the K `outs` is
        its folder. A learner that trains all models together drops the worse half on the way by
        `judge`, which returns the score of a model, higher is better.

        Raises:
            InputError: `judge` is given, and the learner trains one model at a time.
        """
        if judge is not None:
            raise InputError("this learner trains one model at a time; leave halving out.")
        folders = [None] * len(keep) if outs is None else outs
        return [
            self.fit(labels, weights=row, init=init, seed=seed, out=out)
            for row, out in zip(keep, folders, strict=True)
        ]

    def shorter(self, share: float) -> Learner[Model]:
        """Return a learner whose trainings take a share, in (0, 1), of the steps.

        By default it raises `InputError`, since only a learner knows what its steps are.
        """
        raise InputError(
            "this learner cannot train for a share of its steps; give it a method "
            "shorter(share), or leave fold_steps at 'whole'."
        )

    def prepare(self, labels: LabelTable) -> None:
        """Compute in advance what all trainings need.

        It is called with all training labels before the first training in a process, so that what
        it computes does not depend on where a run was interrupted. By default it does nothing.
        """


class BoxMeasurer:
    """Reliability = IoU of predicted boxes with the labels', or another similarity.

    Args:
        predict: labels -> (N, 4) xyxy pixels, NaN where there is no box.
        name: name of the measurer.
        similarity: a function or its name, see `clipvg.similarity`.
    """

    requires: frozenset[str] = frozenset()

    def __init__(
        self,
        predict: Callable[[LabelTable], np.ndarray],
        name: str = IOU,
        similarity: str | Similarity = IOU,
    ) -> None:
        self.name, self.similarity = name, similarity
        self._predict = predict

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        """Return the similarity of each label's box and the predicted one, NaN without one."""
        return Scores(compare(self.similarity, self._predict(labels), labels.boxes()))

    def predict(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return the predicted boxes, float32 (N, 4)."""
        return np.asarray(self._predict(labels), np.float32)
