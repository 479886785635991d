"""The learner with which a curriculum trains grounding models again and again."""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from clipvg.features.cache import FeatureCache
from clipvg.labels import LabelTable
from clipvg.model.grounder import GroundingModel
from clipvg.runtime import distributed
from clipvg.runtime.files import Json
from clipvg.similarity import IOU
from clipvg.training.batches import open_features
from clipvg.training.config import FitConfig
from clipvg.training.evaluate import evaluate
from clipvg.training.fit import fit, fit_many, order_of
from clipvg.training.loop import Judge
from clipvg.training.state import load_trainable, trainable_state
from clipvg.training.trainer import Fit


class GroundingLearner:
    """Trains fresh grounding models with one set of options.

    Without augmentation all its trainings and evaluations share one feature cache: each distinct
    image and expression is encoded once in the learner's lifetime. Call `prepare` with the union of
    the labels first, so that they are stored in one block.

    Args:
        make_model: seed -> a fresh model on the device to train on.
        config: training options; `seed` is replaced by each call's.
        validation: labels that choose each training's best epoch.
        features: folder of the feature cache; None keeps it in memory.
        progress: show bars for what takes over two seconds.
    """

    similarity: str = IOU  # similarity by which its measurers compare boxes

    def __init__(
        self,
        make_model: Callable[[int], GroundingModel],
        config: FitConfig | None = None,
        validation: LabelTable | None = None,
        *,
        features: Path | None = None,
        progress: bool = True,
    ) -> None:
        self.make_model, self.validation = make_model, validation
        self.config = config or FitConfig()
        self._folder, self._progress = features, progress
        self._cache: FeatureCache | None = None
        self._tried = False
        self._share = 1.0

    def shorter(self, share: float) -> Self:
        """Return a learner over the same features whose trainings take a share of the steps."""
        found = copy.copy(self)
        found._share = share * self._share
        return found

    def prepare(self, labels: LabelTable, model: GroundingModel | None = None) -> None:
        """Encode the images and expressions of these labels now, where features are cached.

        Args:
            labels: the union of the labels that trainings will use.
            model: any model over the same towers; made when None.
        """
        if self._cache is not None:
            self._cache.cover(labels)
        elif self.config.caches and not self._tried:
            self._tried = True
            model = model or self.make_model(self.config.seed)
            self._cache = open_features(
                model, labels, self.config, self._folder, progress=self._progress
            )

    def fit(
        self,
        labels: LabelTable,
        *,
        weights: np.ndarray | None = None,
        init: GroundingModel | None = None,
        seed: int = 0,
        out: str | Path | None = None,
    ) -> Fit:
        """Train a fresh model, or one that starts from `init`, which is not changed.

        Args are those of `clipvg.curriculum.Learner.fit`. A bool array as weights keeps the labels
        that are True; the batches of all labels are walked whatever the weights.

        Returns:
            The result, see `clipvg.training.fit`.
        """
        model, options = self._start(labels, init, seed)
        return fit(model, labels, weights=weights, out=out, **options)

    def fit_many(
        self,
        labels: LabelTable,
        keep: np.ndarray,
        *,
        init: GroundingModel | None = None,
        seed: int = 0,
        outs: Sequence[str | Path] | None = None,
        judge: Judge | None = None,
    ) -> list[Fit]:
        """Train the candidates of a search in one pass: `fit` with each row of `keep` as weights.

        Args are those of `clipvg.curriculum.Learner.fit_many`; `judge` halves the candidates on
        the way.

        Returns:
            K results, see `clipvg.training.fit_many`.
        """
        model, options = self._start(labels, init, seed)
        return fit_many(model, labels, keep, outs=outs, judge=judge, **options)

    def evaluate(self, model: GroundingModel, labels: LabelTable) -> float:
        """Return Acc@0.5 in [0, 1] on the labels' boxes, weighted by label; higher is better."""
        features = self._usable(model)
        result = evaluate(model, labels, features=features, progress=self._progress)
        weights = labels.weights()
        if (weights == 1).all():
            return result.accuracy[0.5]
        return float(np.average(result.iou >= 0.5, weights=weights))

    def _start(
        self, labels: LabelTable, init: GroundingModel | None, seed: int
    ) -> tuple[GroundingModel, Json]:
        """Return the model to train, and the arguments that all trainings share."""
        model, standardise = self.make_model(seed), self.config.standardise and init is None
        if init is not None:
            load_trainable(model, trainable_state(init))
        steps = self._steps(labels, model)
        config = dataclasses.replace(self.config, seed=seed, standardise=standardise, steps=steps)
        return model, {
            "config": config,
            "validation": self.validation,
            "features": self.features(model, labels),
            "progress": self._progress,
        }

    def _steps(self, labels: LabelTable, model: GroundingModel) -> int | None:
        """Return the steps of a training by the learner's share; None leaves it to the epochs."""
        config = self.config
        if self._share == 1:
            return config.steps
        order = order_of(labels, config, distributed.join(model.device))
        return max(1, round(self._share * (config.steps or config.epochs * order.steps_per_epoch)))

    def features(self, model: GroundingModel, labels: LabelTable) -> FeatureCache | None:
        """Return the shared feature cache with these labels in it; None if the model has no use."""
        self.prepare(labels, model)
        return self._usable(model)

    def _usable(self, model: GroundingModel) -> FeatureCache | None:
        cache = self._cache
        return cache if cache is not None and cache.fits(model) else None
