"""Options of a training, and its learning rate schedule."""

import math
from dataclasses import dataclass, fields
from typing import Annotated, Literal

from clipvg.runtime.fields import ABOVE_ZERO, BELOW_ONE, check_fields

Schedule = Literal["cosine", "step", "poly", "exponential", "constant"]
Amp = Literal["none", "bf16", "fp16"]

_POLY_POWER = 0.9  # the published code's --lr_power
_EXPONENTIAL_DECAY = 0.9  # its --lr_exponential


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Options of `fit`.

    The defaults have the published optimizer and augmentation, the epochs of the paper's Table III
    and batches of 64. The published recipes are `configs/unsupervised.yaml` and
    `configs/supervised.yaml`, with the epochs and the effective batch of the authors' code.

    The *effective batch* is `batch_size` x `accumulate` x number of processes: one optimizer step
    sees that many labels, and its loss is their weighted mean however they are split. So the
    published 6 GPUs x 64 at 2.5e-4 is, on one GPU, `batch_size=64, accumulate=6` with the same
    learning rate (the same training, up to dropout); or, cheaper in steps per label but another
    training, `batch_size=64, base_batch=384`, which scales the learning rate linearly by
    effective batch / base_batch.

    Attributes:
        epochs: passes over the labels.
        steps: optimizer steps; overrides `epochs` when given.
        batch_size: labels in one forward pass of one process.
        accumulate: forward passes per optimizer step.
        base_batch: effective batch that `lr` is meant for; None takes `lr` as it is.
        lr: AdamW's learning rate.
        beta2: AdamW's decay of the squared gradients; below 0.95 short trainings of small heads
            leave their first plateau sooner.
        weight_decay: AdamW's weight decay, on every trainable tensor as published.
        schedule: curve of the learning rate, see `learning_rate_factor`.
        schedule_by: "epoch" changes it after each epoch (published), "step" at each step.
        warmup_steps: optimizer steps of linear warm-up (published: none).
        drop_every: epochs between drops of `schedule="step"`.
        clip_norm: largest gradient norm; 0 does not clip (published).
        standardise: fold mean and deviation of the first batch's features into the fresh
            projections (published: no), see `standardise_projections`.
        ema: decay of a moving average of the weights, the teacher in `Fit` that measures labels in
            rounds of self-training; 0 keeps none.
        amp: mixed precision of the forward pass; "fp16" scales the loss.
        augment: training augmentation; without it images are encoded once (`cache_features`).
        crop: random crop, unless the expression has a direction word.
        scale: one of seven sizes at random.
        translate: paste at a random place of the square.
        jitter: colour jitter.
        blur: Gaussian blur (published: off).
        group_by_image: up to this many labels of an image come in one batch and share one augmented
            image, which is decoded, augmented and encoded once; 1 gives every label its own
            (published). Faster by nearly the number of labels that share; a step has fewer images,
            and a shared image is cropped only if no label forbids it.
        cache_features: keep image and text features of the frozen towers; needs `augment=False`.
            "auto" keeps them if it can and says so if it cannot; True insists.
        feature_dtype: type of the cached image features; float16 halves the space.
        cache_bytes: largest size of the cached image features; None takes half of the free memory,
            or nine tenths of the free disk.
        num_workers: processes that decode and augment images; threads if they are only decoded.
        drop_last: leave out the last, incomplete batch of an epoch (published).
        evaluate_every: epochs between two evaluations on the validation labels.
        checkpoint_steps: optimizer steps between checkpoints inside an epoch; 0: epochs only.
        history: record every label's loss in every epoch.
        quality: give the result a quality head, fitted on the validation labels if there are at
            least 100, see `fit_quality`; the boxes are the same with and without it.
        seed: seed of the data order, augmentation and dropout.
    """

    epochs: Annotated[int, (1, 10**6)] = 90
    steps: Annotated[int | None, (1, 10**9)] = None
    batch_size: Annotated[int, (1, 10**6)] = 64
    accumulate: Annotated[int, (1, 10**6)] = 1
    base_batch: Annotated[int | None, (1, 10**9)] = None
    lr: Annotated[float, (ABOVE_ZERO, None)] = 2.5e-4
    beta2: Annotated[float, (0, BELOW_ONE)] = 0.999
    weight_decay: Annotated[float, (0, 1000)] = 1e-4
    schedule: Schedule = "cosine"
    schedule_by: Literal["epoch", "step"] = "epoch"
    warmup_steps: Annotated[int, (0, 10**9)] = 0
    drop_every: Annotated[int, (1, 10**6)] = 60
    clip_norm: Annotated[float, (0, None)] = 0.0
    standardise: bool = False
    ema: Annotated[float, (0, BELOW_ONE)] = 0.0
    amp: Amp = "none"
    augment: bool = True
    crop: bool = True
    scale: bool = True
    translate: bool = True
    jitter: bool = True
    blur: bool = False
    group_by_image: Annotated[int, (1, 10**6)] = 1
    cache_features: bool | Literal["auto"] = "auto"
    feature_dtype: Literal["float32", "float16"] = "float32"
    cache_bytes: Annotated[int | None, (0, 2**63)] = None
    num_workers: Annotated[int, (0, 256)] = 0
    drop_last: bool = True
    evaluate_every: Annotated[int, (1, 10**6)] = 1
    checkpoint_steps: Annotated[int, (0, 10**9)] = 0
    history: bool = True
    quality: bool = True
    seed: Annotated[int, (0, 2**63 - 1)] = 0

    def __post_init__(self) -> None:
        """Refuse values that cannot train, all of them in one message."""
        is_odd = self.augment and self.cache_features is True
        further = ["cache_features=True needs augment=False"] if is_odd else []
        check_fields(self, "training options", further=further)

    @property
    def caches(self) -> bool:
        """Whether features are cached where that can be done."""
        return not self.augment and self.cache_features is not False

    def scaled_lr(self, world: int = 1) -> float:
        """Return the learning rate for the effective batch of `world` processes."""
        if self.base_batch is None:
            return self.lr
        return self.lr * self.batch_size * self.accumulate * world / self.base_batch

    def identity(self) -> dict[str, object]:
        """Return the options that decide the resulting weights: a resumed run needs the same."""
        free = {"num_workers", "cache_features", "cache_bytes", "checkpoint_steps", "history"}
        free |= {"quality"}
        free |= set() if self.ema else {"ema"}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in free}


def learning_rate_factor(
    config: FitConfig, step: int, *, steps: int, steps_per_epoch: int
) -> float:
    """Return the factor in [0, 1] on the learning rate at one optimizer step, counted from 0.

    `schedule_by="epoch"` holds the factor during an epoch and changes it after each, as published:
    cosine is (1 + cos(pi * epoch / epochs)) / 2, poly (1 - epoch / epochs) ** 0.9, exponential 0.9
    ** epoch, step 0.1 ** (epoch // drop_every). `schedule_by="step"` uses the share of steps done
    after the warm-up instead, which suits short runs. The warm-up, linear from 1 / warmup_steps to
    1, is multiplied in.

    Example:
        >>> learning_rate_factor(FitConfig(), 50, steps=100, steps_per_epoch=10)
        0.5
    """
    wait = config.warmup_steps
    warmup = min(1.0, (step + 1) / wait) if wait else 1.0
    epochs = math.ceil(steps / steps_per_epoch)
    if config.schedule_by == "epoch":
        epoch: float = step // steps_per_epoch
        done = epoch / epochs
    else:
        done = max(0, step - wait) / max(1, steps - wait)
        epoch = done * epochs
    return warmup * _curve(config, done, epoch)


def _curve(config: FitConfig, done: float, epoch: float) -> float:
    match config.schedule:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        case "poly":
            return (1 - done) ** _POLY_POWER
        case "exponential":
            return _EXPONENTIAL_DECAY**epoch
        case "step":
            return 0.1 ** (epoch // config.drop_every)
        case "constant":
            return 1.0
