"""The examples run, and their glue code stays short."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def load_example(repository: Path, name: str) -> ModuleType:
    path = repository / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_scikit_learn_model_is_adapted(repository: Path, tmp_path: Path) -> None:
    result = load_example(repository, "adapt_scikit_learn").main(tmp_path / "run")
    assert result.summary.gain > 0.2


def test_a_module_of_ones_own_is_adapted(repository: Path, tmp_path: Path) -> None:
    result = load_example(repository, "adapt_own_module").main(tmp_path / "run")
    assert [step.source for step in result.steps] == ["template", "relation"]
    assert result.summary.gain > 0


def test_labels_that_point_well_are_kept_by_their_centres(repository: Path, tmp_path: Path) -> None:
    missed = load_example(repository, "adapt_to_points").main(tmp_path)
    assert missed["pck"] < 0.1 < missed["iou"]


def test_the_glue_is_under_forty_lines(repository: Path) -> None:
    lines = (repository / "examples" / "adapt_own_module.py").read_text().splitlines()
    first, last = (
        next(i for i, line in enumerate(lines) if line.startswith(mark))
        for mark in ("# --- glue", "# --- end of glue")
    )
    code = [line for line in lines[first + 1 : last] if line.strip()]
    assert len(code) < 40
