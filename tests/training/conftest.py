from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import fits

from clipvg.labels import LabelTable


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="session")
def labels(pictures: Path) -> LabelTable:
    """24 labels on 8 pictures."""
    return fits.make_labels(pictures)[0]


@pytest.fixture(scope="session")
def validation(pictures: Path) -> LabelTable:
    """24 labels on 8 other pictures."""
    return fits.make_labels(pictures)[1]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Use one thread, so that sums are taken in a fixed order."""
    torch.set_num_threads(1)
