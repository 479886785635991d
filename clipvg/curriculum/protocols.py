"""What the curriculum knows of models: how one is trained, evaluated and kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clipvg.labels import LabelTable


class Fit(Protocol):
    """Result of one training.

    It may also have a ``teacher``, a model with the mean of the weights over the training, which
    measures the labels in the rounds of `Beyond`.
    """

    @property
    def model(self) -> Any:
        """The trained model."""
        ...


class Learner(Protocol):
    """Trains a model on labels. Trainings with equal arguments give equal models.

    A learner whose ``fit`` also takes ``out``, a folder, gets one in the run for each training and
    may keep checkpoints there, from which the same call goes on. One with a method
    ``prepare(labels)`` is given all training labels before its first training in a process, so
    that what it computes ahead does not depend on where a run was interrupted.
    """

    def fit(
        self,
        labels: LabelTable,
        *,
        weights: np.ndarray | None = None,
        init: Any = None,
        seed: int = 0,
    ) -> Fit:
        """Train one model.

        Args:
            labels: N labels; their truth is never read.
            weights: (N,) float, batch loss = sum(w * l) / sum(w); all 1 when None.
            init: model whose weights training starts from; fresh when None.
            seed: of the initial weights, the order of the data and dropout.
        """
        ...

    def fit_many(
        self,
        labels: LabelTable,
        keep: np.ndarray,
        *,
        init: Any = None,
        seed: int = 0,
    ) -> Sequence[Fit]:
        """Train K models; equals ``[fit(labels, weights=k) for k in keep]``, keep (K, N) bool.

        A learner may also take ``outs``, K folders as ``out`` of ``fit``, and ``judge``, a score
        of a model (higher is better) by which it drops the worse half on the way.
        """
        ...

    def evaluate(self, model: Any, labels: LabelTable) -> float:
        """Return the performance of a model on labels by their weights; higher is better."""
        ...


class ModelStore(Protocol):
    """Keeps models in folders of a run."""

    def save(self, model: Any, folder: Path, *, trained_on: Sequence[str]) -> None:
        """Write a model into an existing, empty folder.

        Args:
            model: what a learner trained.
            folder: where to.
            trained_on: names of the sources of the labels it was trained on.
        """
        ...

    def load(self, folder: Path) -> Any:
        """Read what `save` wrote; the model predicts exactly as it did."""
        ...
