"""State of a training: its weights, their mean, and a file of all, read without any pickle."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor, nn

from clipvg.errors import InputError
from clipvg.runtime.files import Json, atomic_path

if TYPE_CHECKING:
    from clipvg.model.grounder import GroundingModel

CHECKPOINT = "checkpoint.pt"
_FORMAT = 2


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the trainable parameters by name, on the CPU."""
    return {name: p.detach().to("cpu", copy=True) for name, p in trainable(model).items()}


def copied(model: GroundingModel) -> GroundingModel:
    """A model with trainable parameters of its own; towers that do not learn are shared."""
    towers = model.backbone
    learns = any(p.requires_grad for p in towers.parameters())
    return copy.deepcopy(model, {} if learns else {id(towers): towers})


def load_trainable(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Set the trainable parameters, in place."""
    own = trainable(model)
    wrong = sorted(own.keys() ^ state.keys())
    wrong += [n for n in own.keys() & state.keys() if own[n].shape != state[n].shape]
    if wrong:
        raise InputError(
            f"the trained weights are those of another architecture: {len(wrong)} tensors differ "
            f"in name or shape, the first is {wrong[0]}. Build the model with the same options."
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(state[name])


class MovingAverage:
    """Exponential mean of the trainable weights, a step at a time (Polyak and Juditsky, 1992).

    The first steps count less than the decay says, so that the fresh weights are soon forgotten:
    after step s the decay is at most s / (s + 9).
    """

    def __init__(self, model: GroundingModel, decay: float) -> None:
        self._model, self._decay = model, decay
        self._weights: dict[str, Tensor] = dict(trainable(model))
        self._mean = {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        decay = min(self._decay, step / (step + 9))
        torch._foreach_lerp_(list(self._mean.values()), list(self._weights.values()), 1 - decay)

    def state(self) -> dict[str, Tensor]:
        """Copies of the mean by the parameters' names, on the CPU."""
        return {name: mean.to("cpu", copy=True) for name, mean in self._mean.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` gave."""
        for name, mean in self._mean.items():
            mean.copy_(state[name])

    def model(self) -> GroundingModel:
        """A model with the mean, in evaluation mode."""
        teacher = copied(self._model)
        load_trainable(teacher, self.state())
        return teacher.eval()


def seed_dropout(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Seed torch for one step of one process: a resumed run draws an undisturbed one's masks."""
    word = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]
    number = int(word >> np.uint64(1))
    torch.default_generator.manual_seed(number)
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).manual_seed(number)


def save_checkpoint(folder: Path, state: Json) -> None:
    """Write the state of a training to a folder, atomically."""
    with atomic_path(folder / CHECKPOINT) as temporary:
        torch.save({"format": _FORMAT, **state}, temporary)


def load_checkpoint(folder: Path, identity: Json) -> Json | None:
    """Return the state of the training in a folder, or None where there is none.

    A damaged file is of no use to anyone: it is named in a warning, and the training starts anew.

    Raises:
        InputError: the file is of a training with other options or labels than `identity` has.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with ZipFile(path) as archive:
            damaged = archive.testzip()  # torch does not compare the check sums
        state = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception:  # zipfile and torch raise many kinds for a damaged file
        state = None
    if state is None:
        warnings.warn(f"{path} is damaged; the training starts anew.", stacklevel=2)
        return None
    saved = {"format": state.get("format"), **state.get("identity", {})}
    wanted = {"format": _FORMAT, **identity}
    other = [k for k in {**saved, **wanted} if saved.get(k) != wanted.get(k)]
    if other:
        listed = "; ".join(f"{k} was {saved.get(k)!r}, is {wanted.get(k)!r}" for k in other)
        raise InputError(
            f"{path} belongs to another training ({listed}). Train in another folder or delete it."
        )
    return state
