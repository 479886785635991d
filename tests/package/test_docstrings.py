"""The examples in docstrings run, and print what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny import make_labels

PACKAGE = Path(__file__).parents[2] / "clipvg"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Names that examples use without defining them (labels, models, boxes), and their files."""
    import torch
    from PIL import Image

    import clipvg
    from clipvg.ops import box_reliability
    from clipvg.reliability import score_labels

    folder = tmp_path_factory.mktemp("examples")
    labels = make_labels(folder, 2, 4)  # few, so that examples train quickly
    labels = labels.with_column("source", ["template"] * len(labels))
    Image.new("RGB", (96, 64), "gray").save(folder / "street.jpg")
    torch.manual_seed(0)
    models = [clipvg.create_model("clipvg-tiny", None, width=16, layers=1) for _ in range(2)]
    models[0].save_pretrained(folder / "runs" / "refcoco" / "model")
    return {
        "folder": folder,
        "clipvg": clipvg,
        "np": np,
        "torch": torch,
        "box_reliability": box_reliability,
        "labels": labels,
        "validation": labels.select(range(5)),
        "model": models[0],
        "m1": models[0],
        "m2": models[1],
        "scores": score_labels(labels, {"measurer": models[0]}),
        "pred": torch.rand(2, 3, 4),
        "target": torch.rand(3, 4),
    }


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(names["folder"])
    module = importlib.import_module(name)
    examples = doctest.DocTestFinder(exclude_empty=True).find(
        module, extraglobs={k: v for k, v in names.items() if k != "folder"}
    )
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    reports: list[str] = []
    for example in examples:
        runner.run(example, out=reports.append)
    assert runner.tries > 0
    assert not runner.failures, "".join(reports)
