"""The CUDA kernel of box_reliability, run on a CPU to test its results without a GPU.

The kernel's source is compiled as C++ against tests/ops/cuda_on_cpu/cuda_runtime.h, in which the
threads of a block are fibers. This does not test timing, memory order and the compiler for GPUs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from clipvg.ops import load_operators

HERE = Path(__file__).parent / "cuda_on_cpu"
SOURCES = Path(__file__).parents[2] / "csrc"
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)  # in the order of enum Dtype
LAUNCH = re.compile(r"kernel<<<(.+?), (.+?), (.+?), stream>>>\((.*?)\);", re.DOTALL)
# lowered, so that few labels and measurers exceed them
LIMITS = {
    "kLabelsPerLaunch = int64_t{1} << 31;": "kLabelsPerLaunch = 1000;",
    "kMaxGridY = 65535;": "kMaxGridY = 2;",
}
SIDES = [0.0625, 0.0625 - 2**-28, 0.0625 + 2**-27, 1e-3, 0.0, -0.1]
EXTREME = [1e30, 3e38, 1e-40, 0.0]
SHARED_CELLS = 48 * 1024 // 4
EPS = 1e-16
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
# the kernel's threads are fibers, whose stacks the address sanitizer does not follow
SANITIZER_OPTIONS = {"ASAN_OPTIONS": "detect_stack_use_after_return=0:detect_leaks=0"}

Score = Callable[..., list[np.ndarray]]


@pytest.fixture(scope="module")
def score(tmp_path_factory: pytest.TempPathFactory) -> Score:
    """The operator as the CUDA kernel computes it, under the address and undefined sanitizers."""
    folder = tmp_path_factory.mktemp("cuda_on_cpu")
    compiler = shutil.which("g++") if sys.platform == "linux" else None
    probe = [compiler, *SANITIZERS, "-x", "c++", "-", "-o", str(folder / "probe")]
    if not compiler or subprocess.run(probe, input=b"int main() {}").returncode:
        pytest.skip("needs Linux, and g++ with its sanitizers")
    source = (SOURCES / "box_reliability_cuda.cu").read_text()
    call = r"on_cpu::run_grid(\1, \2, \3, local, [=] { kernel(\4); });"
    source, launches = LAUNCH.subn(call, source)
    assert launches == 1
    for limit, small in LIMITS.items():
        assert limit in source
        source = source.replace(limit, small)
    (folder / "kernel.cpp").write_text(source)
    program = str(folder / "box_reliability")
    flags = ["-std=c++20", "-O0", "-g1", "-Wall", "-ffp-contract=off", *SANITIZERS]
    flags += [f'-DKERNEL="{folder / "kernel.cpp"}"', f"-I{HERE}", f"-I{SOURCES}"]
    subprocess.run([compiler, *flags, str(HERE / "box_reliability.cpp"), "-o", program], check=True)

    def run(
        pred: torch.Tensor,
        target: torch.Tensor,
        group: torch.Tensor | None,
        num_groups: int,
        bins: int,
        fmt: str,
    ) -> list[np.ndarray]:
        for name, tensor in (("pred", pred), ("target", target), ("group", group)):
            (folder / name).unlink(missing_ok=True)
            if tensor is not None:
                tensor.contiguous().view(torch.uint8).numpy().tofile(folder / name)
        measurers, labels = pred.shape[:2]
        options = [DTYPES.index(pred.dtype), int(fmt == "cxcywh")]
        options += [measurers, labels, num_groups, bins, EPS]
        command = [program, str(folder), *map(str, options)]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **SANITIZER_OPTIONS}
        )
        assert done.returncode == 0, done.stderr
        iou = np.fromfile(folder / "iou", np.float32).reshape(measurers, labels)
        hist = np.fromfile(folder / "hist", np.int64).reshape(measurers, num_groups, bins)
        return [iou, hist, np.fromfile(folder / "invalid", np.int64)]

    return run


def make_boxes(
    measurers: int, labels: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions and pseudo-boxes of all sizes, also outside the picture, some extreme."""
    generator = torch.Generator().manual_seed(labels)
    target = torch.rand(labels, 4, generator=generator)
    target[:, 2:] **= 3
    shift = 0.3 * torch.randn(measurers, labels, 4, generator=generator)
    pred = target + shift * target[:, 2:].repeat(1, 2)
    pred[:, 5::17, 2] = torch.inf
    target[11::29, 1] = torch.nan
    for k, side in enumerate(SIDES):  # on alternating axes
        target[7 + k :: 31, 2 + k % 2] = side
    for k, value in enumerate(EXTREME):
        pred[:, 3 + k :: 37, k % 4] = value
        target[4 + k :: 41, k % 4] = -value
    return pred.to(dtype), target.to(dtype)


def check(
    score: Score, pred: torch.Tensor, target: torch.Tensor, *options: object
) -> list[np.ndarray]:
    load_operators()
    expected = torch.ops.clipvg.box_reliability_reference(pred, target, *options, EPS)
    found = score(pred, target, *options)
    for name, one, other in zip(("iou", "hist", "invalid"), found, expected, strict=True):
        np.testing.assert_array_equal(one, other.numpy(), err_msg=name)
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fmt", ["cxcywh", "xyxy"])
def test_every_dtype_and_format(score: Score, dtype: torch.dtype, fmt: str) -> None:
    pred, target = make_boxes(2, 1500, dtype)  # each block loops twice, the last warp partly filled
    check(score, pred, target, None, 1, 100, fmt)


@pytest.mark.parametrize("labels", [1, 31, 32, 33, 255, 256, 257, 769])
def test_any_number_of_labels(score: Score, labels: int) -> None:
    check(score, *make_boxes(1, labels), None, 1, 10, "cxcywh")


@pytest.mark.parametrize(
    ("measurers", "groups", "bins"),
    [
        (1, 1, 1),
        (5, 3, 64),
        (4, 1, SHARED_CELLS // 4),  # all measurers fill one block's shared memory exactly
        (5, 1, SHARED_CELLS // 4),  # one measurer too many for that
        (3, 1, SHARED_CELLS),  # one block per measurer
        (2, 1, SHARED_CELLS + 1),  # too much for shared memory: counted in the histogram itself
        (2, 7, 65_536),
    ],
)
def test_where_it_counts(score: Score, measurers: int, groups: int, bins: int) -> None:
    pred, target = make_boxes(measurers, 900)
    # one group below the range and one above it are in no bin
    group = torch.randint(-1, groups + 1, (900,), generator=torch.Generator().manual_seed(0))
    _, hist, _ = check(score, pred, target, group, groups, bins, "cxcywh")
    assert hist.sum() > 0


def test_all_scores_in_one_bin(score: Score) -> None:
    box = torch.tensor([0.5, 0.5, 0.25, 0.25]).expand(700, 4).contiguous()
    _, hist, _ = check(score, box[None], box, None, 1, 1000, "cxcywh")
    assert hist[0, 0, -1] == 700


@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_nothing_to_score(score: Score, shape: tuple[int, int]) -> None:
    pred, target = torch.zeros(*shape, 4), torch.zeros(shape[1], 4)
    check(score, pred, target, None, 1, 10, "cxcywh")
