"""Fixtures available to every test."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Restore Ctrl-C here and in child processes: background jobs of a shell start ignoring it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def without_waiting_for_disks() -> Iterator[None]:
    """Do not force files to the disk: no test sees a power failure, and a flush takes 5 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def cheap_towers() -> None:
    """Create models on `clipvg-tiny` in a fraction of the time, see support/towers.py."""
    import support.towers  # noqa: F401 (it takes effect when it is imported)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder tests/data."""
    return Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the source tree."""
    return Path(__file__).parent.parent


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Create the figures of reports without rendering them, which takes a second each."""

    def save(figure: object, file: io.BytesIO, **_: object) -> None:
        Image.new("L", (1, 1)).save(file, "png")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", save)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def seeded() -> int:
    """Seed torch and return the seed."""
    import torch

    torch.manual_seed(0)
    return 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `gpu` tests, with the reason, if there is no CUDA device."""
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
