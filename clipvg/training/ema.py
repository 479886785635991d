"""The mean of a model's weights over its training: a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clipvg.training.checkpoint import copied, load_trainable

if TYPE_CHECKING:
    from clipvg.model.grounder import GroundingModel


class MovingAverage:
    """Exponential mean of the trainable weights, a step at a time (Polyak and Juditsky, 1992).

    The first steps count less than the decay says, so that the fresh weights are soon forgotten:
    after step s the decay is at most s / (s + 9).
    """

    def __init__(self, model: GroundingModel, decay: float) -> None:
        self._model = model
        self._decay = decay
        named = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._names = list(named)
        self._weights: list[Tensor] = list(named.values())
        self._mean = [p.detach().clone() for p in self._weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        decay = min(self._decay, step / (step + 9))
        torch._foreach_lerp_(self._mean, self._weights, 1 - decay)

    def state(self) -> dict[str, Tensor]:
        """Copies of the mean by the parameters' names, on the CPU."""
        copies = (mean.to("cpu", copy=True) for mean in self._mean)
        return dict(zip(self._names, copies, strict=True))

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` gave."""
        for name, mean in zip(self._names, self._mean, strict=True):
            mean.copy_(state[name])

    def model(self) -> GroundingModel:
        """A model with the mean, in evaluation mode."""
        teacher = copied(self._model)
        load_trainable(teacher, self.state())
        return teacher.eval()
