"""box_reliability against float64, the published values and itself on every backend."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from support.float64_boxes import true_reliability
from support.tolerances import TOLERANCES

from clipvg.errors import InputError
from clipvg.ops import _native, backend, box_reliability, box_reliability_numpy, load_operators

OPERATOR = "box_reliability"
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Case:
    """One input of the table: sizes, options, and how the tensors lie in memory."""

    measurers: int = 2
    labels: int = 127
    bins: int = 1000
    groups: int = 1
    fmt: str = "cxcywh"
    layout: str = "contiguous"
    dtype: torch.dtype = torch.float32

    def make(self) -> tuple[torch.Tensor, torch.Tensor, dict]:
        generator = torch.Generator().manual_seed(self.labels)

        def boxes(*shape: int) -> torch.Tensor:
            values = torch.rand(*shape, 4, generator=generator)
            values[..., 2:] = 0.05 + 0.45 * values[..., 2:]
            if self.fmt == "xyxy":
                values[..., 2:] += values[..., :2]
            return values.to(self.dtype)

        pred, target = boxes(self.measurers, self.labels), boxes(self.labels)
        if self.layout == "strided":
            pred = boxes(self.labels, self.measurers).transpose(0, 1)
            target = boxes(2 * self.labels)[::2]
        elif self.layout == "expanded":
            pred, target = pred[:1].expand(3, -1, -1), boxes(1).expand(self.labels, -1)
        elif self.layout == "misaligned":
            flat = torch.cat([torch.zeros(1, dtype=self.dtype), target.flatten()])
            target = flat[1:].view(-1, 4)
        options = {"bins": self.bins, "fmt": self.fmt}
        if self.groups > 1:
            group = torch.randint(self.groups, (self.labels,), generator=generator)
            options |= {"group": group, "num_groups": self.groups}
        return pred, target, options


CASES = [
    *(Case(labels=labels) for labels in (0, 1, 3, 127, 129, 1000)),
    *(Case(labels=200, layout=layout) for layout in ("strided", "expanded", "misaligned")),
    *(Case(labels=200, dtype=dtype) for dtype in DTYPES),
    *(Case(labels=500, bins=bins) for bins in (1, 3, 7, 4096)),
    Case(labels=500, groups=5),
    Case(labels=500, groups=40, bins=1000),  # more cells than rows
    Case(labels=500, fmt="xyxy"),
    Case(measurers=0, labels=5),
    Case(measurers=1, labels=90_000, groups=3),  # several threads
    Case(measurers=5, labels=30_001, bins=50),  # threads whose shares meet inside a measurer
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_agrees_with_float64(case: Case, each_backend: str) -> None:
    pred, target, options = case.make()
    iou, hist = box_reliability(pred, target, **options)
    assert iou.dtype == torch.float32
    assert hist.dtype == torch.int64
    assert iou.shape == pred.shape[:2]
    assert hist.shape == (len(pred), case.groups, case.bins)
    expected = true_reliability(pred, target, case.fmt).float()
    torch.testing.assert_close(iou, expected, **TOLERANCES["box_reliability_float64"])
    assert int(hist.sum()) == iou.numel()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_backends_are_equal_to_the_bit(case: Case) -> None:
    pred, target, options = case.make()
    results = {}
    for name in ("reference", "auto"):
        with backend(name):
            results[name] = [part.numpy() for part in box_reliability(pred, target, **options)]
            arrays = [array.float().numpy() for array in (pred, target)]
            numpy_options = options | (
                {"group": options["group"].numpy()} if case.groups > 1 else {}
            )
            results[f"numpy {name}"] = box_reliability_numpy(*arrays, **numpy_options)
    for name, (iou, hist) in results.items():
        np.testing.assert_array_equal(iou, results["reference"][0], err_msg=name)
        np.testing.assert_array_equal(hist, results["reference"][1], err_msg=name)
        assert iou.dtype == np.float32
        assert hist.dtype == np.int64


def test_histogram_is_the_count_of_the_defined_bin(each_backend: str) -> None:
    pred, target, options = Case(labels=1000, groups=4, bins=37).make()
    iou, hist = box_reliability(pred, target, **options)
    bins = np.minimum(np.floor(iou.numpy() * np.float32(37)), 36).astype(int)
    expected = np.zeros((2, 4, 37), np.int64)
    for measurer, row in enumerate(bins):
        np.add.at(expected[measurer], (options["group"].numpy(), row), 1)
    np.testing.assert_array_equal(hist.numpy(), expected)


def test_twice_gives_the_same(each_backend: str) -> None:
    pred, target, options = Case(labels=70_000, groups=3).make()
    first, second = (box_reliability(pred, target, **options) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_published_values_and_kept_counts(data_dir: Path, each_backend: str) -> None:
    stored = json.loads((data_dir / "ops" / "box_reliability_published.json").read_text())
    target, pred, expected = zip(*stored["rows"], strict=True)
    iou, _ = box_reliability(torch.tensor(pred), torch.tensor(target))
    assert iou[0].tolist() == list(expected)
    # The published filter compares the float32 IoU with a double, strictly.
    values = iou[0].double().numpy()
    for rule, count in stored["kept_at_threshold"].items():
        sign, threshold = rule.split()
        kept = values > float(threshold) if sign == ">" else values == float(threshold)
        assert kept.sum() == count, rule


def test_one_measurer_may_come_without_its_axis(each_backend: str) -> None:
    pred, target, options = Case(measurers=1).make()
    for with_axis, without in zip(
        box_reliability(pred, target, **options),
        box_reliability(pred[0], target, **options),
        strict=True,
    ):
        assert torch.equal(with_axis, without)


def test_groups_of_any_integer_dtype(each_backend: str) -> None:
    pred, target, options = Case(groups=3).make()
    expected = box_reliability(pred, target, **options)[1]
    for dtype in (torch.int32, torch.int8, torch.uint8):
        group = options["group"].to(dtype)
        assert torch.equal(box_reliability(pred, target, group=group, num_groups=3)[1], expected)
        assert torch.equal(box_reliability(pred, target, group=group)[1], expected)


def test_input_that_requires_a_gradient_gives_none(each_backend: str) -> None:
    pred, target, options = Case().make()
    iou, _ = box_reliability(pred.requires_grad_(), target, **options)
    assert not iou.requires_grad


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["pred", "target"])
def test_rows_that_are_not_finite_are_named(bad: float, where: str, each_backend: str) -> None:
    pred, target, _ = Case(measurers=2, labels=9).make()
    (pred[1] if where == "pred" else target)[4, 2] = bad
    with pytest.raises(InputError, match=r"row 4 of measurer 1"):
        box_reliability(pred, target)
    with pytest.raises(InputError, match=r"row 4 of measurer 1"):
        box_reliability_numpy(pred.numpy(), target.numpy())


def test_operator_counts_invalid_rows_and_never_raises_on_values() -> None:
    load_operators()
    pred, target, _ = Case(measurers=2, labels=9).make()
    pred[1, 4] = torch.nan
    target[7, 0] = torch.inf
    group = torch.tensor([0, 1, 2, -1, 0, 1, 0, 1, 0])
    for operator in (
        torch.ops.clipvg.box_reliability,
        torch.ops.clipvg.box_reliability_reference,
    ):
        iou, hist, invalid = operator(pred, target, group, 2, 10, "cxcywh", 1e-16)
        assert invalid.tolist() == [1, 2]
        assert iou.isnan().nonzero().tolist() == [[0, 7], [1, 4], [1, 7]]
        # Labels 2 and 3 are in neither of the groups 0 and 1, so they are in no bin.
        assert hist.sum((1, 2)).tolist() == [6, 5]


def test_float64_beyond_float32_is_a_bad_row_not_a_crash(each_backend: str) -> None:
    pred, target, _ = Case(dtype=torch.float64).make()
    pred[0, 3, 0] = 1e300
    with pytest.raises(InputError, match="row 3 of measurer 0"):
        box_reliability(pred, target)
    with pytest.raises(InputError, match="row 3 of measurer 0"):
        box_reliability_numpy(pred.numpy(), target.numpy())


@pytest.mark.parametrize("group", [[0, 3, 1], [0, -1, 1]])
def test_groups_out_of_range_are_named(group: list[int], each_backend: str) -> None:
    pred, target, _ = Case(labels=3).make()
    with pytest.raises(InputError, match=rf"row 1: {group[1]}"):
        box_reliability(pred, target, group=torch.tensor(group), num_groups=2)
    with pytest.raises(InputError, match=rf"row 1: {group[1]}"):
        box_reliability_numpy(pred.numpy(), target.numpy(), group=np.array(group), num_groups=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pred": torch.zeros(3, 5)}, r"pred has shape \(1, 3, 5\)"),
        ({"target": torch.zeros(2, 4)}, r"target has shape \(2, 4\); expected \(3, 4\)"),
        ({"group": torch.zeros(2, dtype=torch.int64)}, r"group has shape \(2,\)"),
        ({"group": torch.zeros(3)}, "group is torch.float32; expected an integer"),
        ({"bins": 0}, "bins is 0"),
        ({"bins": 2**24 + 1}, "bins is 16777217"),
        ({"num_groups": 0}, "num_groups is 0"),
        ({"num_groups": 2**62}, "make more than 1073741824 counts"),
        ({"group": torch.tensor([0, 2**40, 1])}, "make more than 1073741824 counts"),
        ({"bins": 10.5}, "bins is 10.5; expected a whole number"),
        ({"bins": "10"}, "bins is '10'; expected a whole number"),
        ({"num_groups": True}, "num_groups is True; expected a whole number"),
        ({"eps": -0.5}, "eps is -0.5; expected a float32 above 0"),
        ({"eps": 0.0}, "eps is 0.0; expected a float32 above 0"),
        ({"eps": 1e-60}, "eps is 1e-60; expected a float32 above 0"),
        ({"eps": float("nan")}, "eps is nan; expected a float32 above 0"),
        ({"eps": float("inf")}, "eps is inf; expected a float32 above 0"),
        ({"eps": 10**400}, "eps is 1.*0; expected a float32 above 0"),
        ({"eps": None}, "eps is None; expected a number"),
        ({"fmt": "cxcywf"}, "did you mean 'cxcywh'"),
        ({"target": torch.zeros(3, 4, dtype=torch.float64)}, "one dtype and device"),
        ({"pred": torch.zeros(3, 4).int(), "target": torch.zeros(3, 4).int()}, "floating dtype"),
    ],
)
def test_bad_arguments_are_refused_alike(change: dict, message: str, each_backend: str) -> None:
    arguments = {"pred": torch.zeros(3, 4), "target": torch.zeros(3, 4)} | change
    with pytest.raises(ValueError, match=message):
        box_reliability(**arguments)
    arrays = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
    if not {"one dtype and device", "floating dtype"} & {message}:  # NumPy accepts these
        message = message.replace("torch.", "")
        with pytest.raises(ValueError, match=message):
            box_reliability_numpy(**arrays)


@pytest.mark.parametrize("eps", [-0.5, -1e-3, float("nan"), float("inf"), 0.0])
@pytest.mark.parametrize("bins", [10, 70_000])  # counted per thread, and in the histogram itself
def test_no_number_reaches_memory_beside_the_histogram(eps: float, bins: int) -> None:
    """The operators and the native module can be called directly, without the checked functions."""
    load_operators()
    box = torch.tensor([[0.5, 0.5, 0.5, 0.5]]).expand(5000, -1).contiguous()
    for operator in (
        torch.ops.clipvg.box_reliability,
        torch.ops.clipvg.box_reliability_reference,
    ):
        with pytest.raises((RuntimeError, ValueError), match="eps"):
            operator(box[None], box, None, 1, bins, "cxcywh", eps)
    module = _native.numpy_module()[0]
    if module is not None:
        options = {"num_groups": 1, "bins": bins, "cxcywh": True, "threads": 1}
        with pytest.raises(ValueError, match="eps"):
            module.box_reliability(box[None].numpy(), box.numpy(), None, eps=eps, **options)


@pytest.mark.parametrize("boxes", ["text", [["a"] * 4], [[None] * 4], [[1j] * 4]])
def test_numpy_boxes_that_are_no_numbers_are_refused(boxes: object) -> None:
    with pytest.raises(InputError, match="box_reliability: boxes are"):
        box_reliability_numpy(boxes, boxes)
