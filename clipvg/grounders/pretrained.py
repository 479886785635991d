"""Base class of grounders that use a model of Hugging Face transformers."""

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
    """A grounder that uses a model of Hugging Face transformers.

    Args:
        model: hub name, or folder.
        device: where it runs; None for a CUDA GPU if there is one, else the CPU.
        precision: "fp32", "bf16", "fp16", or "auto": fp32, but bf16 for models that write text, if
            they are not on a CPU.
        batch_size: expressions per pass.
    """

    kind: ClassVar[Kind]
    model: str | Path = field(kw_only=False)
    device: Device = None
    precision: Precision = "auto"
    batch_size: Annotated[int, (1, None)] = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.loaded  # load now: a model that is not available is refused on creation

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
        """The model's hub commit or its folder's files, and its number type."""
        return f"{self.loaded.identity} {self.loaded.model.dtype}"
