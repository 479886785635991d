"""Time each CPU implementation of the operators with pytest-benchmark.

python -m pytest benchmarks --benchmark-autosave; then, after a change, with --benchmark-compare.
The scripts in benchmarks/ops also time other libraries, GPUs and the shapes in docs/kernels.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from clipvg.ops import (
    backend,
    backends,
    box_reliability,
    box_reliability_numpy,
    multilevel_projection,
    packed_attention,
)

sys.path.insert(0, str(Path(__file__).parent / "ops"))
import box_reliability as boxes
import multilevel_projection as projection
import packed_attention as attention


def implementations(operator: str, device: str = "cpu") -> list[str]:
    """Return the backends of an operator that are available on this machine."""
    return [
        row["backend"]
        for row in backends()
        if (row["operator"], row["device"]) == (operator, device) and row["available"]
    ]


@pytest.mark.parametrize("name", implementations("box_reliability"))
@pytest.mark.parametrize("labels", [100, 100_000])
def test_box_reliability(benchmark: BenchmarkFixture, name: str, labels: int) -> None:
    benchmark.group = f"box_reliability, 3 x {labels} labels"
    pred, target = boxes.boxes(3, labels, "spread", "cpu")
    with backend(name):
        iou, _ = benchmark(box_reliability, pred, target)
    assert iou.shape == (3, labels)


@pytest.mark.parametrize("name", implementations("box_reliability", "numpy"))
def test_box_reliability_numpy(benchmark: BenchmarkFixture, name: str) -> None:
    benchmark.group = "box_reliability_numpy, 3 x 100000 labels"
    pred, target = (part.numpy() for part in boxes.boxes(3, 100_000, "spread", "cpu"))
    with backend(name):
        iou, _ = benchmark(box_reliability_numpy, pred, target)
    assert iou.shape == (3, 100_000)


@pytest.mark.parametrize("name", implementations("packed_attention"))
def test_packed_attention(benchmark: BenchmarkFixture, name: str) -> None:
    benchmark.group = "packed_attention, 64 labels"
    own = attention.inputs(attention.Size(1, 64, "float32", attention.FORWARD), "cpu")
    with backend(name):
        out = benchmark(packed_attention, *own.parts, own.offsets, own.longest)
    assert out.shape == own.parts[0].shape


@pytest.mark.parametrize("name", implementations("multilevel_projection"))
def test_multilevel_projection(benchmark: BenchmarkFixture, name: str) -> None:
    benchmark.group = "multilevel_projection, 8 images"
    parts = projection.inputs(8, projection.DTYPES["float32"], "all tokens", "cpu")
    with backend(name):
        out = benchmark(multilevel_projection, **parts)
    assert out.shape == (8, projection.TOKENS, projection.CHANNELS)
