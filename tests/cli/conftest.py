"""Fixtures of the CLI tests: a tiny model, pictures, labels, and commands in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipvg.cli import main
from clipvg.labels import LabelTable


@dataclass
class Outcome:
    """The result of a command: its exit code and both output streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON object on standard output."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line on standard error of a command that failed because of its input."""
        assert self.code == 2, self.err
        assert self.out == ""
        # Trainings here validate on their own labels, which gives a warning.
        warned = "clipvg: warning: leak: "
        lines = [line for line in self.err.splitlines() if not line.startswith(warned)]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("clipvg")
        return lines[0]


@pytest.fixture
def clipvg(capfd, monkeypatch):
    """Return a function that runs `clipvg WORDS…` in this process."""
    monkeypatch.delenv("CLIPVG_DEBUG", raising=False)

    def run(*words: object) -> Outcome:
        capfd.readouterr()
        code = main([str(word) for word in words])
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight noise pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for number in range(8):
        pixels = draw.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def labels(pictures: Path) -> Path:
    """Sixteen labels with truth, as Parquet."""
    draw = np.random.default_rng(1)
    corner = draw.integers(0, 30, (16, 2))
    boxes = np.concatenate([corner, corner + draw.integers(15, 30, (16, 2))], axis=1)
    table = LabelTable.from_columns(
        image=[f"{row % 8}.png" for row in range(16)],
        expression=[f"red thing {row} <b>" for row in range(16)],
        box=boxes.astype(float),
        truth=(boxes + draw.integers(-6, 6, boxes.shape)).astype(float),
        source="template",
    )
    path = pictures / "labels.parquet"
    table.write(path)
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained model: the small CLIP's architecture with random weights."""
    import torch

    from clipvg.model import create_model

    torch.manual_seed(0)
    model = create_model("clipvg-tiny", None, width=16, layers=1, heads=2, feedforward=16)
    folder = tmp_path_factory.mktemp("run") / "model"
    model.save_pretrained(folder)
    return folder
