"""Dropout whose masks cost little on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_STEPS = 1 << 16  # values of 16 random bits


def dropout(x: Tensor, rate: float) -> Tensor:
    """Set each number to 0 at a probability in [0, 1) and scale the others up to keep the mean.

    On a CPU four numbers share one draw of 64 bits, a third of the time of one draw each; the rate
    is then the nearest multiple of 2^-16 below 1, and the scale that of this rate. At rate 0 it is
    x itself.
    """
    if rate == 0:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, rate)
    dropped = min(_STEPS - 1, round(rate * _STEPS))
    count = x.numel()
    draws = torch.empty((count + 3) // 4, dtype=torch.int64)
    draws.random_(torch.iinfo(torch.int64).min, None)
    bits = draws.view(torch.int16)[:count].view(x.shape)
    kept = (bits >= dropped - _STEPS // 2).to(x.dtype)
    return x * kept.mul_(_STEPS / (_STEPS - dropped))
