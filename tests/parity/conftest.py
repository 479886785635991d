"""The reference's small checkpoint, and what the reference computed with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clipvg.model import GroundingModel, load


@pytest.fixture(scope="session")
def mini(data_dir: Path) -> Path:
    """Folder of the reference's small checkpoint."""
    return data_dir / "official_mini"


@pytest.fixture(scope="session")
def golden(mini: Path) -> dict[str, torch.Tensor]:
    """Inputs, intermediates and boxes; the masks as bool."""
    tensors = load_file(mini / "model_io.safetensors")
    return {k: v.bool() if v.dtype == torch.uint8 else v for k, v in tensors.items()}


@pytest.fixture(scope="session")
def published(mini: Path) -> GroundingModel:
    return load(mini / "best_checkpoint.pth")
