from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training import toy

from clipvg.labels import LabelTable


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="session")
def labels(pictures: Path) -> LabelTable:
    """24 labels on 8 pictures."""
    return toy.make_labels(pictures)


@pytest.fixture(scope="session")
def validation(pictures: Path) -> LabelTable:
    """24 labels on 8 other pictures."""
    return toy.make_labels(pictures, seed=1, prefix="v")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Sums in a fixed order."""
    torch.set_num_threads(1)
