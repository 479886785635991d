"""Batches for training, from cached features or from decoded and augmented images."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from clipvg.data.augment import TrainTransform
from clipvg.data.dataset import Batch, LabelDataset, collate
from clipvg.errors import InputError
from clipvg.features import CachedLabels, CacheOptions, FeatureBatch, FeatureCache
from clipvg.features.images import CacheTooLargeError
from clipvg.labels import LabelTable
from clipvg.model.grounder import GroundingModel
from clipvg.training.config import FitConfig
from clipvg.training.order import Order
from clipvg.training.state import TOO_LARGE

AnyBatch = Batch | FeatureBatch
# (start, stop) -> this process's batches of these optimizer steps, one for each part of an `Order`.
Batches = Callable[[int, int], Iterator[AnyBatch]]


def open_features(
    model: GroundingModel,
    labels: LabelTable,
    config: FitConfig,
    folder: Path | None,
    *,
    progress: bool,
) -> FeatureCache | None:
    """Open the feature cache of a training; return None if images are read in each epoch.

    They are with augmentation, if the image tower learns, and, with a warning, if features would be
    too large; then a restart uses no cache either, since results differ in the last bits.
    ``cache_features=True`` raises instead.
    """
    insist = config.cache_features is True
    if not config.caches:
        return None
    if not model.frozen_images:
        if insist:
            raise InputError(
                "cache_features=True needs a frozen image tower, and train_visual_positions trains "
                "it. Use cache_features='auto' or train_visual_positions=False."
            )
        return None
    too_large = None if folder is None else folder.with_name(TOO_LARGE)
    if too_large is not None and too_large.exists() and not insist:
        warnings.warn(
            f"{too_large}: image features did not fit when this training began, so images are "
            "encoded again in every epoch; pass cache_features=True to keep features now.",
            stacklevel=2,
        )
        return None
    options = CacheOptions(
        folder=folder,
        max_bytes=config.cache_bytes,
        dtype=config.feature_dtype,
        num_workers=config.num_workers,
        progress=progress,
    )
    try:
        return FeatureCache(model, labels, options)
    except CacheTooLargeError as error:
        if insist:
            raise
        warnings.warn(f"{error} Images are encoded again in every epoch.", stacklevel=2)
    if too_large is not None:
        too_large.touch()
    return None


def cached_batches(labels: CachedLabels, order: Order) -> Batches:
    """Return batches gathered from cached features: no decoding, no worker processes."""

    def batches(start: int, stop: int) -> Iterator[FeatureBatch]:
        for step in range(start, stop):
            for part in order.parts(step):
                yield labels.batch(part.rows)

    return batches


def image_batches(
    model: GroundingModel, labels: LabelTable, config: FitConfig, order: Order
) -> Batches:
    """Return batches of images from a DataLoader, augmented if the options say so.

    The augmentation of a label depends on seed, epoch and row, not on the number of workers; labels
    of one group share their image.
    """
    size, preset = model.backbone.image_size, model.preset
    transform = TrainTransform(
        size,
        preset,
        crop=config.crop,
        scale=config.scale,
        translate=config.translate,
        jitter=config.jitter,
        blur=config.blur,
    )
    dataset = LabelDataset(
        labels,
        model.tokenizer,
        size,
        preset,
        transform=transform if config.augment else None,
        seed=config.seed,
    )
    rows = _Rows(order)
    loader = DataLoader(
        dataset,
        batch_sampler=rows,
        num_workers=config.num_workers,
        collate_fn=collate,
        persistent_workers=config.num_workers > 0,
        worker_init_fn=_ignore_interrupts,
        pin_memory=model.device.type == "cuda",
    )

    def batches(start: int, stop: int) -> Iterator[Batch]:
        per_epoch = order.steps_per_epoch
        while start < stop:
            epoch = start // per_epoch
            dataset.set_epoch(epoch, order.leader(epoch))
            rows.steps = range(start, min((epoch + 1) * per_epoch, stop))
            yield from loader
            start = rows.steps.stop

    return batches


class _Rows:
    """Batch sampler: the rows of each part of some steps."""

    def __init__(self, order: Order) -> None:
        self._order, self.steps = order, range(0)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            for part in self._order.parts(step):
                yield part.rows.tolist()


def _ignore_interrupts(worker: int) -> None:
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides when to stop


class Boxes(nn.Module):
    """One `forward` for both kinds of batches, for DDP to wrap."""

    def __init__(self, model: GroundingModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: AnyBatch) -> Tensor:
        """Return boxes (B, 4), cxcywh in [0, 1]."""
        if isinstance(batch, FeatureBatch):
            return batch.predict(self.model)
        return self.model(batch)


def standardise_projections(model: GroundingModel, batch: AnyBatch) -> None:
    """Fold the mean and deviation of a batch's features into the two fresh projections, in place.

    Raw CLIP tokens have channels whose mean is many times their deviation; projected as they are,
    all tokens look alike to the layer norms, and training starts with a long plateau. This is
    data-dependent initialisation in the spirit of Salimans & Kingma (arXiv 1602.07868): the
    model's form does not change.
    """
    with torch.no_grad():
        if isinstance(batch, FeatureBatch):
            image = batch.image_features
            text = batch.text if batch.text.is_floating_point() else model.encode_text(batch.text)
        else:
            image = model.encode_images(batch.images)
            text = model.encode_text(batch.tokens)
        _standardise(model.visual_projection, image.flatten(0, 1))
        _standardise(model.text_projection, text[batch.text_mask])


def _standardise(projection: nn.Linear, inputs: Tensor) -> None:
    """Set weights and bias so that x (rows, channels) gives W((x - mean) / deviation) + b."""
    inputs = inputs.float()
    mean = inputs.mean(dim=0)
    deviation = (inputs - mean).square().mean(dim=0).sqrt().clamp(min=1e-3)
    projection.weight.div_(deviation)
    projection.bias.sub_(projection.weight @ mean)
