"""Train grounding models: one loop for cached features and images, one process or several."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipvg.errors import InputError
from clipvg.features.cache import FeatureCache
from clipvg.labels import LabelTable
from clipvg.model.grounder import GroundingModel
from clipvg.runtime import distributed
from clipvg.runtime.distributed import World
from clipvg.runtime.files import Json
from clipvg.training.batches import cached_batches, image_batches, open_features
from clipvg.training.config import FitConfig
from clipvg.training.loop import Judge, Loop
from clipvg.training.order import Order
from clipvg.training.state import FEATURES, copied, load_checkpoint
from clipvg.training.trainer import Fit, Trainer

Weights = Sequence[float] | np.ndarray | None


def fit(
    model: GroundingModel,
    labels: LabelTable,
    *,
    config: FitConfig | None = None,
    validation: LabelTable | None = None,
    out: str | Path | None = None,
    weights: Weights = None,
    features: FeatureCache | None = None,
    progress: bool = True,
) -> Fit:
    """Train the model's trainable parameters on labels, in place.

    With a folder the training can be stopped at any instant, by Ctrl-C, SIGTERM or SIGKILL, and
    the same call continues it and ends with the weights of an undisturbed run (bit for bit on one
    CPU process). The folder gets `checkpoint.pt`, `metrics.jsonl`, `history.npy`, `features/`
    (without augmentation, until the end) and, at the end, `model/`. Under `torchrun` every process
    calls it with the same arguments; the result is that of one process with the same effective
    batch, up to dropout.

    Args:
        model: on the device to train on.
        labels: with an image root; human and pseudo-labels mix by their `weight` column.
        config: options; the defaults of `FitConfig` when None.
        validation: labels that choose the best epoch by Acc@0.5.
        out: folder of the training; None keeps everything in memory.
        weights: (N,) factors on the labels' own weights, >= 0. The loss of a step is the sum of
            w * l over the sum of w; a batch of weight 0 gives a gradient of 0.
        features: a cache over the model's towers to use and extend; needs `augment=False`.
        progress: show a bar on standard error for what takes over two seconds.

    Raises:
        InputError: no usable label, an empty validation set, options that do not fit, an image
            that cannot be read, a folder of another training, or a loss that is not finite.

    Example:
        >>> fitted = fit(model, labels, config=FitConfig(epochs=3), out="runs/fit", progress=False)
        >>> [line["epoch"] for line in fitted.metrics]
        [1, 2, 3]
    """
    training = Training(labels, config or FitConfig(), validation, features, progress)
    return training.run([model], [weights], None if out is None else [out])[0]


def fit_many(
    model: GroundingModel,
    labels: LabelTable,
    keep: np.ndarray,
    *,
    config: FitConfig | None = None,
    validation: LabelTable | None = None,
    outs: Sequence[str | Path] | None = None,
    features: FeatureCache | None = None,
    progress: bool = True,
    judge: Judge | None = None,
) -> list[Fit]:
    """Train K copies of a model in one pass over N labels, each on those it keeps.

    Copy k ends as `fit(model, labels, weights=keep[k])` would, up to rounding: all walk the batches
    of all labels for the same number of steps, a batch of which a copy keeps nothing gives it a
    gradient of 0 (AdamW then decays its moments and weights), clipping and the best epoch are each
    copy's own, and one dropout mask serves all. Images are decoded and encoded once for all copies,
    which share the frozen towers. Labels that a copy does not keep cost it nothing where `dropout`
    is 0.

    With folders it resumes as `fit` does; each folder is what `fit` would make of it. Arguments and
    errors that are not named here are those of `fit`.

    Args:
        model: on the device to train on; it is not changed.
        labels: the union of what is kept.
        keep: bool (K, N), or factors on the labels' weights, like `weights` of `fit`.
        config: as in `fit`.
        validation: as in `fit`.
        outs: K folders.
        features: as in `fit`.
        progress: as in `fit`.
        judge: score of a model, higher is better. If given, the copies are halved (successive
            halving, arXiv 1502.07943) at the steps that `clipvg.training.loop.rungs` gives: the
            worse half stops there and is returned as it is; the others are not affected.

    Returns:
        K results. `seconds` is the time of the loop divided among the copies at work.
    """
    keep, count = np.asarray(keep), len(labels)
    if keep.ndim != 2 or not len(keep):
        raise InputError(f"keep has shape {keep.shape}, expected (candidates, {count}).")
    if outs is not None and len(outs) != len(keep):
        raise InputError(f"{len(outs)} folders for {len(keep)} candidates, expected one for each.")
    training = Training(labels, config or FitConfig(), validation, features, progress)
    return training.run([copied(model) for _ in keep], list(keep), outs, judge)


@dataclass
class Training:
    """One or more trainings over the same labels; see `fit` and `fit_many`."""

    labels: LabelTable
    config: FitConfig
    validation: LabelTable | None
    features: FeatureCache | None
    progress: bool

    def __post_init__(self) -> None:
        if self.validation is not None and len(self.validation) == 0:
            raise InputError("there are no validation labels. Check the file, or leave it out.")

    def run(
        self,
        models: Sequence[GroundingModel],
        weights: Sequence[Weights],
        outs: Sequence[str | Path] | None,
        judge: Judge | None = None,
    ) -> list[Fit]:
        """Train each model with its weights, from its folder's checkpoint where there is one."""
        first, world = models[0], distributed.join(models[0].device)
        combined = [_combined_weights(self.labels, given) for given in weights]
        folders = [None] * len(models) if outs is None else [Path(out) for out in outs]
        order = order_of(self.labels, self.config, world)
        trainers = [
            self._trainer(*each, order) for each in zip(models, combined, folders, strict=True)
        ]
        if any(trainer.step < trainer.steps for trainer in trainers):
            cache = self._cache(first, folders[0], world)
            batches = image_batches(first, self.labels, self.config, order)
            if cache is not None:
                batches = cached_batches(cache.view(self.labels), order)
            Loop(trainers, batches, features=cache, progress=self.progress, judge=judge).run()
        return [trainer.result() for trainer in trainers]

    def _trainer(
        self, model: GroundingModel, weight: np.ndarray, folder: Path | None, order: Order
    ) -> Trainer:
        identity = self._identity(order, weight)
        saved = load_checkpoint(folder, identity) if folder else None
        trainer = Trainer(
            model,
            order,
            self.config,
            weight,
            identity=identity,
            validation=self.validation,
            folder=folder,
        )
        trainer.restore(saved)
        return trainer

    def _identity(self, order: Order, weight: np.ndarray) -> Json:
        """Return what decides the result: a checkpoint that differs in it is not continued."""
        options = self.config.identity()
        for name in ("batch_size", "accumulate"):  # how the effective batch is split is free
            del options[name]
        return {
            **options,
            "effective_batch": order.effective_batch,
            "labels": self.labels.fingerprint(),
            "validation": None if self.validation is None else self.validation.fingerprint(),
            "weights": hashlib.sha256(weight.tobytes()).hexdigest(),
        }

    def _cache(
        self, model: GroundingModel, folder: Path | None, world: World
    ) -> FeatureCache | None:
        """Return the feature cache to train from; None if images are read in each epoch."""
        if self.features is not None and not self.config.augment:
            if not self.features.fits(model):
                raise InputError(
                    "the features given are of other towers or another preset than the model's. "
                    "Make the cache with this model, or leave features out."
                )
            return self.features
        place = None if folder is None else folder / FEATURES
        # The first process writes the file; the others wait and map it.
        if place is not None and not world.is_main:
            distributed.barrier(world)
        progress = self.progress and world.is_main
        cache = open_features(model, self.labels, self.config, place, progress=progress)
        if place is not None and world.is_main:
            distributed.barrier(world)
        return cache


def order_of(labels: LabelTable, config: FitConfig, world: World) -> Order:
    """Return which labels each step of a training sees."""
    return Order(
        num_labels=len(labels),
        effective_batch=config.batch_size * config.accumulate * world.size,
        batch_size=config.batch_size,
        seed=config.seed,
        drop_last=config.drop_last,
        world=world,
        image_of=labels.distinct_images()[1],
        group=config.group_by_image,
    )


def _combined_weights(labels: LabelTable, weights: Weights) -> np.ndarray:
    """Return the labels' weights times the given ones, float32 (N,)."""
    if not len(labels):
        raise InputError("there are no labels to train on. Check the file and any selection.")
    combined = labels.weights().astype(np.float64)
    if weights is not None:
        given = np.asarray(weights, dtype=np.float64)
        if given.shape != combined.shape:
            raise InputError(
                f"weights have shape {given.shape}, expected ({len(labels)},): one per label."
            )
        combined = combined * given
    bad = np.flatnonzero(~np.isfinite(combined) | (combined < 0))
    if len(bad):
        raise InputError(
            f"{len(bad)} weights are negative or not finite, the first is row {bad[0]} with "
            f"{combined[bad[0]]}. Use 0 to leave a label out."
        )
    if not combined.any():
        raise InputError("all labels have weight 0, so nothing can be learned. Keep some.")
    return combined.astype(np.float32)
