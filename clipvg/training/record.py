"""What a training leaves behind besides weights: metrics by epoch and losses by label."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from clipvg.runtime import distributed
from clipvg.runtime.distributed import World
from clipvg.runtime.files import atomic_folder, atomic_path

if TYPE_CHECKING:
    from clipvg.model.grounder import GroundingModel

METRICS = "metrics.jsonl"
FEATURES = "features"
_HISTORY = "history.npy"


class EpochLosses:
    """Losses of the running epoch, kept on the model's device so that no step waits for them.

    Attributes:
        rows: (N,) float32 loss of each label, NaN where not visited or of weight 0.
        sums: (3,) float64 sums of weight * L1, weight * GIoU and weight.
    """

    def __init__(self, num_labels: int, device: torch.device) -> None:
        self.rows = torch.full((num_labels,), torch.nan, device=device)
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)

    def add(self, row: Tensor, l1: Tensor, giou: Tensor, weight: Tensor) -> None:
        """Record one batch: (B,) rows, losses and weights."""
        l1, giou = l1.detach(), giou.detach()
        self.rows[row] = torch.where(weight > 0, l1 + giou, torch.nan)
        self.sums += torch.stack([l1 @ weight, giou @ weight, weight.sum()])

    def gathered(self, world: World) -> tuple[Tensor, Tensor]:
        """`rows` and `sums` over all processes, on the CPU."""
        rows, sums = self.rows.cpu().clone(), self.sums.cpu().clone()
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


def open_history(folder: Path | None, epochs: int, num_labels: int, resume: bool) -> np.ndarray:
    """(epochs, N) float16 losses, NaN where not visited: in memory, or a file that is mapped.

    Args:
        folder: of the training; None keeps them in memory.
        epochs: number of rows.
        num_labels: N.
        resume: continue the file that is there.
    """
    shape = (epochs, num_labels)
    if folder is None:
        return np.full(shape, np.nan, dtype=np.float16)
    path = folder / _HISTORY
    if not (resume and path.exists()):
        with atomic_path(path) as temporary:
            np.save(temporary, np.full(shape, np.nan, dtype=np.float16))
    return np.load(path, mmap_mode="r+")


def write_metrics(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Write all lines, atomically: what a resume does first, so that none is double or missing."""
    with atomic_path(folder / METRICS) as temporary:
        temporary.write_text("".join(_line(line) for line in lines))


def append_metrics(folder: Path, line: dict[str, Any]) -> None:
    """Add one epoch's line."""
    with (folder / METRICS).open("a") as file:
        file.write(_line(line))


def write_model(model: "GroundingModel", folder: Path) -> None:
    """Save the model as `folder/model`, which appears whole, and drop the features it needed."""
    with atomic_folder(folder / "model") as new:
        model.save_pretrained(new)
    shutil.rmtree(folder / FEATURES, ignore_errors=True)


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values) + "\n"
