"""The variants of the native CPU kernel, each forced and compared with the reference."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.float64_boxes import true_reliability
from support.tolerances import TOLERANCES

from clipvg.errors import InputError
from clipvg.ops import _native, backend, box_reliability, box_reliability_numpy, load_operators

VARIANTS = ("generic", "avx2", "avx512")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
BOX = torch.tensor([[0.5, 0.5, 0.5, 0.5]])

pytestmark = pytest.mark.skipif(
    _native.load_torch_library() is not None or _native.numpy_module()[0] is None,
    reason="the native libraries are not built",
)


@contextmanager
def forced(variant: str) -> Iterator[None]:
    """Force the native kernel's `variant`; skip the test if the processor lacks it."""
    before = os.environ.get("CLIPVG_CPU_ISA")
    os.environ["CLIPVG_CPU_ISA"] = variant
    try:
        try:
            with backend("native"):
                box_reliability(BOX, BOX)
        except RuntimeError as error:
            if "this processor lacks" not in str(error):
                raise
            pytest.skip(f"this processor has no {variant}")
        with backend("native"):
            yield
    finally:
        del os.environ["CLIPVG_CPU_ISA"]
        if before is not None:
            os.environ["CLIPVG_CPU_ISA"] = before


def check_equal(pred: torch.Tensor, target: torch.Tensor, group: torch.Tensor | None,
                num_groups: int, bins: int, fmt: str) -> None:  # fmt: skip
    load_operators()
    arguments = (pred, target, group, num_groups, bins, fmt, 1e-16)
    actual = torch.ops.clipvg.box_reliability(*arguments)
    expected = torch.ops.clipvg.box_reliability_reference(*arguments)
    torch.testing.assert_close(actual[0], expected[0], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(actual[1], expected[1])
    assert torch.equal(actual[2], expected[2])
    if pred.dtype != torch.bfloat16:
        numpy = _native.numpy_module()[0]
        options = {"num_groups": num_groups, "bins": bins, "cxcywh": fmt == "cxcywh"}
        arrays = [None if part is None else part.numpy() for part in (pred, target, group)]
        parts = numpy.box_reliability(*arrays, **options, eps=1e-16, threads=2)
        np.testing.assert_array_equal(parts[0], expected[0].numpy())
        np.testing.assert_array_equal(parts[1], expected[1].numpy())
        np.testing.assert_array_equal(parts[2], expected[2].numpy())


SPECIAL = (0.0, -0.0, 1.0, 1e-40, 1e-4, 6e-8, 6e4, 1e30, 3e38, float("nan"), float("inf"))
SPECIAL += (0.0625, 0.0625 - 2**-28)  # the size where the origin moves, and one just below


@pytest.mark.parametrize("variant", VARIANTS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_equals_the_reference_to_the_bit(variant: str, data: st.DataObject) -> None:
    measurers, labels = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 70))
    dtype = data.draw(st.sampled_from(DTYPES))
    num_groups, bins = data.draw(st.integers(1, 3)), data.draw(st.sampled_from((1, 7, 64, 4096)))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    pred = torch.randn(labels, measurers, 4, generator=generator) * 0.4 + 0.5
    target = torch.randn(2 * labels, 4, generator=generator) * 0.4 + 0.5
    for boxes in (pred, target):
        for value in data.draw(st.lists(st.sampled_from(SPECIAL), max_size=8)):
            if boxes.numel():
                at = data.draw(st.integers(0, boxes.numel() - 1))
                boxes.view(-1)[at] = value * data.draw(st.sampled_from((1, -1)))
    group = torch.randint(-1, num_groups + 1, (labels,), generator=generator)
    group = data.draw(st.sampled_from((None, group, group * 2**32)))
    fmt = data.draw(st.sampled_from(("cxcywh", "xyxy")))
    with forced(variant):  # neither tensor is contiguous
        check_equal(
            pred.to(dtype).transpose(0, 1), target.to(dtype)[::2], group, num_groups, bins, fmt
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("scores", ["random", "all alike"])
@pytest.mark.parametrize("with_group", [False, True])
def test_several_threads(variant: str, dtype: torch.dtype, scores: str, with_group: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(66_001, 4, generator=generator).to(dtype)
    pred = torch.rand(3, 66_001, 4, generator=generator).to(dtype)
    if scores == "all alike":
        target[:] = target[0]
        pred = target.expand(3, -1, -1)
    group = torch.arange(66_001) % 4 if with_group else None
    with forced(variant):
        for bins in (10, 1000, 70_000):  # with copies of the counters, with fewer, with none
            check_equal(pred, target, group, 4, bins, "cxcywh")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_value_is_read_exactly(variant: str, dtype: torch.dtype) -> None:
    values = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    box = torch.zeros(len(values), 4, dtype=dtype)
    box[:, 2], box[:, 3] = values, 1
    target = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=dtype).expand_as(box)
    with forced(variant):
        check_equal(box[None], target, None, 1, 1000, "xyxy")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fmt", ["cxcywh", "xyxy"])
def test_error_against_float64_is_that_of_the_reference(dtype: torch.dtype, fmt: str) -> None:
    generator = torch.Generator().manual_seed(1)
    centre = 0.2 + 0.6 * torch.rand(20_000, 2, generator=generator, dtype=torch.float64)
    side = 10 ** (-3 + 2.5 * torch.rand(20_000, 2, generator=generator, dtype=torch.float64))
    target = torch.cat([centre, side], 1)
    pred = target + 0.2 * side.repeat(1, 2) * torch.randn(20_000, 4, generator=generator)
    if fmt == "xyxy":
        pred, target = (
            torch.cat([box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2], 1)
            for box in (pred, target)
        )
    pred, target = pred.to(dtype), target.to(dtype)
    truth = true_reliability(pred, target, fmt)
    errors = {}
    for name in ("reference", "native"):
        with backend(name):
            errors[name] = (box_reliability(pred, target, fmt=fmt)[0][0] - truth).abs().max()
    assert errors["native"] <= 2 * errors["reference"]
    tolerance = "box_reliability_small" + ("_rounded" if dtype == torch.float64 else "")
    assert errors["native"] <= TOLERANCES[tolerance]["atol"]


def test_a_variant_that_cannot_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPVG_CPU_ISA", "avx1024")
    message = "CLIPVG_CPU_ISA is none of generic, avx2 and avx512"
    with backend("native"):
        with pytest.raises(RuntimeError, match=message):
            box_reliability(BOX, BOX)
        with pytest.raises(ValueError, match=message):
            box_reliability_numpy(BOX.numpy(), BOX.numpy())


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4", np.longdouble])
def test_numpy_arrays_of_any_floating_dtype(dtype: object) -> None:
    generator = np.random.default_rng(0)
    pred, target = generator.random((2, 99, 4)), generator.random((99, 4))
    pred, target = pred.astype(np.float16).astype(dtype), target.astype(np.float16).astype(dtype)
    results = {}
    for name in ("reference", "native"):
        with backend(name):
            results[name] = box_reliability_numpy(pred, target)
    np.testing.assert_array_equal(results["native"][0], results["reference"][0])
    np.testing.assert_array_equal(results["native"][1], results["reference"][1])
    with pytest.raises(InputError, match="expected finite"):
        box_reliability_numpy(pred * np.inf, target)


@pytest.mark.slow
def test_more_than_two_to_the_31_elements() -> None:
    """4 GiB of predictions, 0.5 GiB of targets, 2 GiB of results."""
    measurers, labels, period = 8, 2**26 + 64, 128
    generator = torch.Generator().manual_seed(0)
    few = torch.rand(period, 4, generator=generator).bfloat16()
    pred = torch.empty(measurers, labels, 4, dtype=torch.bfloat16)
    assert pred.numel() > 2**31
    pred.view(-1, period, 4)[:] = few  # labels are whole periods and a half
    target = torch.tensor([[0.5, 0.5, 0.75, 0.75]], dtype=torch.bfloat16)
    with backend("reference"):
        expected = box_reliability(few, target.expand(period, -1))[0][0]
    with backend("native"):
        iou, hist = box_reliability(pred, target.expand(labels, -1))
    del pred
    for row in iou.view(-1, period)[:: labels // 997]:
        assert torch.equal(row, expected)
    assert torch.equal(iou.view(-1, period)[-1], expected)
    bins = (expected * 1000).floor().long().clamp(max=999)
    for measurer in range(measurers):
        first = measurer * labels % period
        repeats = torch.full((period,), labels // period)
        repeats[torch.arange(first, first + labels % period) % period] += 1
        assert torch.equal(hist[measurer, 0], torch.bincount(bins, repeats.double(), 1000).long())
