"""Grounders whose models are those of Hugging Face transformers: what they share."""

from __future__ import annotations

from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from clipvg.grounders.grounder import Grounder
from clipvg.observe.loading import Kind, Pretrained, load_pretrained
from clipvg.observe.options import Precision
from clipvg.runtime.distributed import Device, choose_device

if TYPE_CHECKING:
    import torch


class PretrainedGrounder(Grounder):
    """A grounder of transformers.

    Args:
        model: hub name, or folder.
        device: where it runs; a CUDA GPU where there is one, else the CPU, when None.
        precision: "auto" is fp32, but bf16 for models that write where they are not on a CPU; or
            "fp32", "bf16", "fp16".
        batch_size: expressions in one pass.
    """

    kind: ClassVar[Kind]
    model: str | Path = field(kw_only=False)
    device: Device = None
    precision: Precision = "auto"
    batch_size: Annotated[int, (1, None)] = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.loaded  # a model that cannot be had is refused now

    @cached_property
    def loaded(self) -> Pretrained:
        """The model and its processor."""
        device = choose_device(self.device)
        return load_pretrained(str(self.model), self.kind, device=device, precision=self.precision)

    @property
    def place(self) -> torch.device:
        """The device of the model."""
        return self.loaded.device

    @property
    def weights(self) -> str:
        """The hub's commit, or the folder's files; and the number type."""
        return f"{self.loaded.identity} {self.loaded.model.dtype}"
