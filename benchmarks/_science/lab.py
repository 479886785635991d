"""A learner that caches its trainings, shared by all methods of a seed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipvg.api.run import make_model, model_config
from clipvg.demo import recipe
from clipvg.features import CacheOptions
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel, ModelOptions, load
from clipvg.reliability.measurer import GroundingMeasurer
from clipvg.runtime.files import atomic_folder
from clipvg.training import FeatureCache, Fit, FitConfig, GroundingLearner, evaluate


@dataclass
class Kept:
    """A cached training: its key, the model, and every label's loss by epoch."""

    key: str
    model: GroundingModel
    history: np.ndarray
    steps: int
    teacher: GroundingModel | None = None
    metrics: Sequence[Mapping[str, Any]] = ()


class Lab(GroundingLearner):
    """A learner that keeps every training in a folder, under a hash of all that determines it.

    Methods that train on the same labels thus share the training, and a killed run resumes.

    Args:
        folder: keeps the trainings.
        labels: the union of the labels to train on, encoded once, in one block.
        changes: changes to the training recipe `scenes`.
        features: folder that keeps the features of the images.
        start: training from whose head all others start; None starts them afresh.
    """

    def __init__(
        self,
        folder: Path,
        labels: LabelTable,
        changes: Mapping[str, Any],
        features: Path,
        start: Kept | None = None,
    ) -> None:
        backbone, model, training = recipe()
        training = dataclasses.replace(training, **changes)
        # Only what differs from the defaults, so that a new option changes no key.
        chosen = {k: v for k, v in vars(training).items() if v != getattr(FitConfig(), k)}
        settings = {"backbone": backbone}
        settings |= {k: v for k, v in vars(model).items() if v != getattr(ModelOptions(), k)}
        self._identity = json.dumps([settings, chosen, start and start.key], sort_keys=True)
        self._start_from = start and start.model
        config = model_config(labels, backbone, model)
        cpu = torch.device("cpu")
        super().__init__(lambda seed: make_model(config, seed, cpu), training, progress=False)
        self._kept = folder
        self._features = FeatureCache(
            self.make_model(0),
            labels,
            CacheOptions(folder=features, dtype=training.feature_dtype),
        )
        self._cache, self._tried = self._features, True

    def fit(
        self,
        labels: LabelTable,
        *,
        weights: np.ndarray | None = None,
        init: Any = None,
        seed: int = 0,
        out: Path | None = None,
    ) -> Kept:
        """Train from `init`, by default the common head, or load the same training done before."""
        key = self._key(labels, weights, seed, init)
        folder = self._kept / key
        if not folder.exists():
            start = self._start_from if init is None else init
            result = super().fit(labels, weights=weights, init=start, seed=seed)
            with atomic_folder(folder) as new:
                _write(result, new)
        steps = self._steps(labels, self.make_model(0))
        assert steps is not None, "the recipe says how many"
        return Kept(key, load(folder), np.load(folder / "history.npy"), steps)

    def shorter(self, share: float) -> Lab:
        """Return a lab whose trainings take a share of the steps and are kept under other keys."""
        found = super().shorter(share)
        found._identity = json.dumps([self._identity, share])
        return found

    def fit_many(self, labels: LabelTable, keep: np.ndarray, **options: Any) -> list[Fit]:
        """Train candidates together, from the same head; they are kept by the run, not here."""
        assert options.pop("init", None) is None, "every training starts from the same head"
        options.pop("outs", None)  # the trainings are too short to need checkpoints
        return super().fit_many(labels, keep, init=self._start_from, **options)

    def accuracy(self, model: GroundingModel | Path, labels: LabelTable) -> float:
        """Acc@0.5 in per cent, against the truth."""
        model = model if isinstance(model, GroundingModel) else load(model)
        result = evaluate(model, labels, against="truth", features=self._features)
        return 100 * result.accuracy[0.5]

    def measurer(self, model: GroundingModel) -> GroundingMeasurer:
        """Return a model as a measurer that reads cached features."""
        return GroundingMeasurer(model, "measurer", features=self._features)

    def save(self, model: GroundingModel, folder: Path, *, trained_on: Sequence[str]) -> None:
        """Write a model of a curriculum's run."""
        model.save_pretrained(folder)

    def load(self, folder: Path) -> GroundingModel:
        """Read a model of a curriculum's run."""
        return load(folder)

    def _key(
        self,
        labels: LabelTable,
        weights: np.ndarray | None,
        seed: int,
        init: GroundingModel | None,
    ) -> str:
        digest = hashlib.sha256(self._identity.encode())
        digest.update(labels.fingerprint().encode())
        digest.update(b"" if weights is None else np.ascontiguousarray(weights).tobytes())
        digest.update(str(seed).encode())
        for _, tensor in sorted(init.state_dict().items()) if init is not None else ():
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:20]


def _write(fit: Fit, folder: Path) -> None:
    fit.model.save_pretrained(folder)
    np.save(folder / "history.npy", np.asarray(fit.history))
