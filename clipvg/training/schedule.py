"""Learning-rate schedules as pure functions of the step: a resume has nothing to restore."""

import math

from clipvg.training.config import FitConfig

_POLY_POWER = 0.9  # the published code's --lr_power
_EXPONENTIAL_DECAY = 0.9  # its --lr_exponential


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
