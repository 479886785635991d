"""What a training leaves behind besides weights: metrics by epoch and losses by label."""

import os
import shutil
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from clipvg.errors import InputError
from clipvg.runtime import distributed
from clipvg.runtime.distributed import World
from clipvg.runtime.files import atomic_folder, atomic_path
from clipvg.training.checkpoint import CHECKPOINT

if TYPE_CHECKING:
    from clipvg.model.grounder import GroundingModel

METRICS = "metrics.jsonl"
FEATURES = "features"
TOO_LARGE = "features.too-large"  # beside where they would be: a restart goes without, too
HISTORY = "history.npy"


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
        """`rows` and `sums` over all processes, on the CPU."""
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
        """Start an epoch."""
        self.rows.fill_(torch.nan)
        self.sums.zero_()


class History:
    """Losses by label of each epoch, (epochs, N) float16, NaN where not visited.

    In memory, or a file that is written row by row. It is not mapped while it grows: where
    somebody cut a mapped file the process would end without a word.

    Args:
        folder: of the training; None keeps the losses in memory.
        shape: (epochs, N).
        checks: CRC-32 of rows by epoch, of a training that is continued; as an attribute, of all
            that are recorded.

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
        """Return the losses; those of a file are mapped."""
        if self._path is None:
            return self._rows
        self._check(self._path)
        return np.load(self._path, mmap_mode="r")

    def _check(self, path: Path) -> None:
        """Refuse a file of another header or length, and rows that were not written so."""
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


def write_model(model: "GroundingModel", folder: Path) -> None:
    """Save the model as `folder/model`, which appears whole, and drop the features it needed."""
    with atomic_folder(folder / "model") as new:
        model.save_pretrained(new)
    shutil.rmtree(folder / FEATURES, ignore_errors=True)
    (folder / TOO_LARGE).unlink(missing_ok=True)
