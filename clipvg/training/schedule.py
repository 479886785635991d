"""Learning-rate schedules as pure functions of the step: a resume has nothing to restore."""

import math
from typing import Literal

Schedule = Literal["cosine", "step", "poly", "exponential", "constant"]

_POLY_POWER = 0.9  # the published code's --lr_power
_EXPONENTIAL_DECAY = 0.9  # its --lr_exponential


def learning_rate_factor(
    step: int,
    *,
    steps: int,
    steps_per_epoch: int,
    schedule: Schedule = "cosine",
    by: Literal["epoch", "step"] = "epoch",
    warmup_steps: int = 0,
    drop_every: int = 60,
) -> float:
    """Factor on the learning rate at one optimizer step.

    `by="epoch"` holds the factor during an epoch and changes it after each, as published:
    cosine is (1 + cos(pi * epoch / epochs)) / 2, poly (1 - epoch / epochs) ** 0.9, exponential
    0.9 ** epoch, step 0.1 ** (epoch // drop_every). `by="step"` uses the share of steps done after
    the warm-up instead, which suits short runs.

    Args:
        step: optimizer step, from 0.
        steps: optimizer steps of the whole run.
        steps_per_epoch: optimizer steps of one epoch.
        schedule: name of the curve.
        by: when the factor changes.
        warmup_steps: steps of linear warm-up from 1 / warmup_steps to 1, multiplied in.
        drop_every: epochs between two drops of `schedule="step"`.

    Returns:
        Factor in [0, 1].

    Example:
        >>> learning_rate_factor(50, steps=100, steps_per_epoch=10)
        0.5
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    epochs = math.ceil(steps / steps_per_epoch)
    if by == "epoch":
        epoch: float = step // steps_per_epoch
        done = epoch / epochs
    else:
        done = max(0, step - warmup_steps) / max(1, steps - warmup_steps)
        epoch = done * epochs
    return warmup * _curve(schedule, done, epoch, drop_every)


def _curve(schedule: Schedule, done: float, epoch: float, drop_every: int) -> float:
    match schedule:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        case "poly":
            return (1 - done) ** _POLY_POWER
        case "exponential":
            return _EXPONENTIAL_DECAY**epoch
        case "step":
            return 0.1 ** (epoch // drop_every)
        case "constant":
            return 1.0
