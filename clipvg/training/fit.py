"""Train a grounding model: one loop for cached features and pictures, one process or several."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipvg.errors import InputError
from clipvg.training import distributed
from clipvg.training.checkpoint import load_checkpoint
from clipvg.training.config import FitConfig
from clipvg.training.distributed import World
from clipvg.training.features import FeatureCache, open_cache
from clipvg.training.feed import CachedFeed, Feed, PictureFeed
from clipvg.training.order import Order
from clipvg.training.record import FEATURES
from clipvg.training.trainer import Best, Trainer

if TYPE_CHECKING:
    from clipvg.labels import LabelTable
    from clipvg.model.grounder import GroundingModel

__all__ = ["Best", "Fit", "FitConfig", "fit"]


@dataclass
class Fit:
    """Result of a training.

    Attributes:
        model: the trained model, in evaluation mode: the best epoch's weights when there were
            validation labels, else the last ones.
        history: (epochs, N) float16 loss of each label by epoch, NaN where not visited; None when
            not recorded. Mapped from disk when the training has a folder.
        metrics: one dict per epoch: epoch, step, lr, loss, loss_l1, loss_giou and, where
            evaluated, val_acc_0.5 and val_mean_iou.
        best: epoch and validation Acc@0.5 of the weights in `model`; None without validation.
        seconds: time in the training loop, all attempts of a resumed run together.
    """

    model: "GroundingModel"
    history: np.ndarray | None
    metrics: list[dict[str, Any]]
    best: Best | None
    seconds: float


def fit(
    model: "GroundingModel",
    labels: "LabelTable",
    *,
    config: FitConfig | None = None,
    validation: "LabelTable | None" = None,
    out: str | Path | None = None,
    weights: Sequence[float] | np.ndarray | None = None,
    features: FeatureCache | None = None,
    progress: bool = True,
) -> Fit:
    """Train the model's trainable parameters on labels, in place.

    With a folder the training can be stopped at any instant, by Ctrl-C, SIGTERM or SIGKILL, and
    the same call continues it and ends with the weights of an undisturbed run (bit for bit on one
    CPU process). The folder gets `checkpoint.pt`, `metrics.jsonl`, `history.npy`,
    `best.safetensors` (with validation), `features/` (without augmentation, until the end) and,
    at the end, `model/`. Under `torchrun` every process calls it with the same arguments; the
    result is that of one process with the same effective batch, up to dropout.

    Args:
        model: on the device to train on.
        labels: with an image root; human and pseudo-labels mix by their `weight` column.
        config: options; the published recipe when None.
        validation: labels that choose the best epoch by Acc@0.5.
        out: folder of the training; None keeps everything in memory.
        weights: (N,) factors on the labels' own weights, >= 0. The loss of a step is the sum of
            w * l over the sum of w; a batch of weight 0 gives a gradient of 0.
        features: a cache over the model's towers to use and extend; needs `augment=False`.
        progress: show a bar on standard error for what takes over two seconds.

    Returns:
        The result.

    Raises:
        InputError: no usable label, an empty validation set, options that do not fit, a picture
            that cannot be read, a folder of another training, or a loss that is not finite.

    Example:
        >>> fit(model, labels, config=FitConfig(epochs=10), out="runs/first").metrics[-1]["loss"]
    """
    config, folder = config or FitConfig(), None if out is None else Path(out)
    world = distributed.join(model.device)
    weight = _combined_weights(labels, weights)
    if validation is not None and len(validation) == 0:
        raise InputError("there are no validation labels. Check the file, or leave it out.")
    order = _order(len(labels), config, world)
    identity = _identity(config, order, labels, validation, weight)
    saved = load_checkpoint(folder, identity) if folder else None
    trainer = Trainer(
        model, order, config, weight, identity=identity, validation=validation, folder=folder
    )
    trainer.restore(saved)
    if trainer.step < trainer.steps:
        cache = _cache(model, labels, config, folder, features, world, progress)
        feed: Feed = PictureFeed(model, labels, config, order)
        if cache is not None:
            feed = CachedFeed(cache.view(labels), order)
        trainer.run(feed, features=cache, progress=progress)
    return Fit(model, trainer.history, trainer.metrics, trainer.finish(), trainer.seconds)


def _order(num_labels: int, config: FitConfig, world: World) -> Order:
    return Order(
        num_labels=num_labels,
        effective_batch=config.batch_size * config.accumulate * world.size,
        batch_size=config.batch_size,
        seed=config.seed,
        drop_last=config.drop_last,
        world=world,
    )


def _identity(
    config: FitConfig,
    order: Order,
    labels: "LabelTable",
    validation: "LabelTable | None",
    weight: np.ndarray,
) -> dict[str, Any]:
    """What decides the result: a checkpoint of anything else is not continued."""
    options = config.identity()
    for name in ("batch_size", "accumulate"):  # how the effective batch is split does not matter
        del options[name]
    return {
        **options,
        "effective_batch": order.effective_batch,
        "labels": labels.fingerprint(),
        "validation": validation.fingerprint() if validation is not None else None,
        "weights": hashlib.sha256(weight.tobytes()).hexdigest(),
    }


def _combined_weights(labels: "LabelTable", weights: Any) -> np.ndarray:
    """The labels' weights times the given ones, float32 (N,)."""
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


def _cache(
    model: "GroundingModel",
    labels: "LabelTable",
    config: FitConfig,
    folder: Path | None,
    features: FeatureCache | None,
    world: World,
    progress: bool,
) -> FeatureCache | None:
    """The feature cache to train from; None when pictures are read anew."""
    if features is not None and not config.augment:
        if not features.fits(model):
            raise InputError(
                "the features given are of other towers or another preset than the model's. Make "
                "the cache with this model, or leave features out."
            )
        return features
    if config.augment or config.cache_features is False:
        return None
    place = None if folder is None else folder / FEATURES
    options = {
        "folder": place,
        "max_bytes": config.cache_bytes,
        "dtype": config.feature_dtype,
        "num_workers": config.num_workers,
        "progress": progress and world.is_main,
    }
    insist = config.cache_features is True
    if world.size > 1 and place is not None:
        # The first process writes the file; the others wait and map it.
        if world.is_main:
            open_cache(model, labels, insist=insist, **options)
        distributed.barrier(world)
    return open_cache(model, labels, insist=insist, **options)
