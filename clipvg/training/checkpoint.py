"""State of a training on disk: written whole or not at all, and read without executing pickles."""

from __future__ import annotations

import copy
import random
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


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the trainable parameters by name, on the CPU."""
    return {
        name: parameter.detach().to("cpu", copy=True)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def copied(model: GroundingModel) -> GroundingModel:
    """A model with trainable parameters of its own; towers that do not learn are shared."""
    towers = model.backbone
    learns = any(p.requires_grad for p in towers.parameters())
    return copy.deepcopy(model, {} if learns else {id(towers): towers})


def load_trainable(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Set the trainable parameters, in place."""
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
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


def rng_state() -> Json:
    """States of the generators of Python, NumPy and torch."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    numbers_of_numpy = torch.from_numpy(np.asarray(keys, dtype=np.int64))
    return {
        "python": (version, list(numbers), gauss),
        "numpy": (name, numbers_of_numpy, position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_rng_state(state: Json) -> None:
    """Put back what `rng_state` took."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count() and torch.cuda.is_initialized():
        torch.cuda.set_rng_state_all(state["cuda"])


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
