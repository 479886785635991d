"""State of a training: weights and their moving average, losses by label, and their files."""

from __future__ import annotations

import copy
import os
import shutil
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor, nn

from clipvg.errors import InputError
from clipvg.runtime import distributed
from clipvg.runtime.distributed import World
from clipvg.runtime.files import Json, atomic_folder, atomic_path

if TYPE_CHECKING:
    from clipvg.model.grounder import GroundingModel

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"
FEATURES = "features"
TOO_LARGE = "features.too-large"  # marker beside them: a restart trains without features, too
HISTORY = "history.npy"
_FORMAT = 2


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the trainable parameters by name, on the CPU."""
    return {name: p.detach().to("cpu", copy=True) for name, p in trainable(model).items()}


def copied(model: GroundingModel) -> GroundingModel:
    """Return a copy with trainable parameters of its own; towers that do not learn are shared."""
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
    """Exponential moving average of the trainable weights (Polyak and Juditsky, 1992).

    The decay is lower in the first steps, so that the fresh weights are soon forgotten: after step
    s it is at most s / (s + 9).
    """

    def __init__(self, model: GroundingModel, decay: float) -> None:
        self._model, self._decay = model, decay
        self._weights: dict[str, Tensor] = dict(trainable(model))
        self._mean = {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the weights after a step, counted from 1."""
        decay = min(self._decay, step / (step + 9))
        torch._foreach_lerp_(list(self._mean.values()), list(self._weights.values()), 1 - decay)

    def state(self) -> dict[str, Tensor]:
        """Return copies of the average by the parameters' names, on the CPU."""
        return {name: mean.to("cpu", copy=True) for name, mean in self._mean.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` gave."""
        for name, mean in self._mean.items():
            mean.copy_(state[name])

    def model(self) -> GroundingModel:
        """Return a model with the averaged weights, in evaluation mode."""
        teacher = copied(self._model)
        load_trainable(teacher, self.state())
        return teacher.eval()


def seed_dropout(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Seed torch for one step of one process, so that a resumed run draws the same masks."""
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

    A damaged file is named in a warning and gives None, so that the training starts anew.

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


class EpochLosses:
    """Losses of the running epoch, kept on the model's device so that no step waits for them."""

    def __init__(self, num_labels: int, device: torch.device) -> None:
        # (N,) float32 loss of each label, NaN where not visited or of weight 0
        self.rows = torch.full((num_labels,), torch.nan, device=device)
        # sums of weight * L1, weight * GIoU and weight; Apple's GPUs have no float64
        wide = torch.float64 if device.type in ("cpu", "cuda") else torch.float32
        self.sums = torch.zeros(3, dtype=wide, device=device)

    def add(self, row: Tensor, l1: Tensor, giou: Tensor, weight: Tensor) -> None:
        """Record one batch: (B,) rows, losses and weights."""
        l1, giou = l1.detach(), giou.detach()
        self.rows[row] = torch.where(weight > 0, l1 + giou, torch.nan)
        self.sums += torch.stack([l1 @ weight, giou @ weight, weight.sum()])

    def gathered(self, world: World) -> tuple[Tensor, Tensor]:
        """Return `rows` and `sums` over all processes, on the CPU."""
        rows, sums = self.rows.cpu().clone(), self.sums.cpu().clone().double()
        if world.size > 1:
            rows = distributed.all_reduce(rows.nan_to_num(nan=-torch.inf), world, "max")
            rows[rows == -torch.inf] = torch.nan
            distributed.all_reduce(sums, world)
        return rows, sums

    def restore(self, rows: Tensor, sums: Tensor, world: World) -> None:
        """Continue from what `gathered` gave: every process its rows, the first one the sums."""
        self.rows.copy_(rows)
        if world.is_main:
            self.sums.copy_(sums)

    def reset(self) -> None:
        """Clear the losses for a new epoch."""
        self.rows.fill_(torch.nan)
        self.sums.zero_()


class History:
    """Losses by label of each epoch, (epochs, N) float16, NaN where not visited.

    They are in memory, or in a file that is written row by row. The file is not mapped while it
    grows: if somebody truncated it, the process would be killed without a message.

    Args:
        folder: folder of the training; None keeps the losses in memory.
        shape: (epochs, N).
        checks: CRC-32 of the rows by epoch, of a training that is continued; the attribute holds
            those of all recorded rows.

    Raises:
        InputError: the file of a training that is continued is not as it was written.
    """

    def __init__(self, folder: Path | None, shape: tuple[int, int], checks: dict[int, int]) -> None:
        self.checks = dict(checks)
        self._path = None if folder is None else folder / HISTORY
        if self._path is None:
            self._rows = np.full(shape, np.nan, dtype=np.float16)
            return
        header = BytesIO()
        facts = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, facts)
        self._header, self._row_bytes = header.getvalue(), 2 * shape[1]
        self._size = len(self._header) + shape[0] * self._row_bytes
        if checks and self._path.exists():
            self._check(self._path)
            return
        if checks:
            warnings.warn(f"{self._path} is gone; its earlier epochs have no losses.", stacklevel=2)
        self.checks = {}
        empty = np.full(shape[1], np.nan, "<f2").tobytes()
        with atomic_path(self._path) as temporary, temporary.open("wb") as file:
            file.write(self._header)
            file.writelines(empty for _ in range(shape[0]))

    def record(self, epoch: int, losses: np.ndarray) -> None:
        """Keep the losses (N,) of an epoch, counted from 0."""
        row = losses.astype("<f2")
        if self._path is None:
            self._rows[epoch] = row
            return
        with self._path.open("r+b") as file:
            file.seek(len(self._header) + epoch * self._row_bytes)
            file.write(row.tobytes())
            file.flush()
            os.fsync(file.fileno())
        self.checks[epoch] = zlib.crc32(row.tobytes())

    def read(self) -> np.ndarray:
        """Return the losses, mapped from the file if there is one."""
        if self._path is None:
            return self._rows
        self._check(self._path)
        return np.load(self._path, mmap_mode="r")

    def _check(self, path: Path) -> None:
        """Raise InputError if the file's header, length or a recorded row is not as written."""
        with path.open("rb") as file:
            is_sound = file.read(len(self._header)) == self._header
            for epoch, check in sorted(self.checks.items()):
                file.seek(len(self._header) + epoch * self._row_bytes)
                is_sound = is_sound and zlib.crc32(file.read(self._row_bytes)) == check
        if not (is_sound and path.stat().st_size == self._size):
            raise InputError(
                f"{path} is damaged: the losses by label are not as they were written. Delete it "
                f"to go on without those of earlier epochs, or {CHECKPOINT} beside it too to train "
                "anew."
            )


def write_model(model: GroundingModel, folder: Path) -> None:
    """Save the model as `folder/model`, atomically, and delete the features of its training."""
    with atomic_folder(folder / "model") as new:
        model.save_pretrained(new)
    shutil.rmtree(folder / FEATURES, ignore_errors=True)
    (folder / TOO_LARGE).unlink(missing_ok=True)
