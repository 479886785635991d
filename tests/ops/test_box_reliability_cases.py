"""box_reliability on boxes whose IoU is known, and its properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.float64_boxes import true_reliability
from support.tolerances import TOLERANCES

from clipvg.ops import box_reliability, box_reliability_numpy

OPERATOR = "box_reliability"

# name: pred and target in xyxy, IoU
LITERAL = {
    "identical": ((0.25, 0.25, 0.75, 0.75), (0.25, 0.25, 0.75, 0.75), 1.0),
    "nested quarter": ((0.0, 0.0, 0.5, 0.5), (0.0, 0.0, 1.0, 1.0), 0.25),
    "side by side": ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), 0.0),
    "half shifted": ((0.0, 0.0, 0.5, 1.0), (0.25, 0.0, 0.75, 1.0), 1 / 3),
    "diagonal": ((0.0, 0.0, 0.5, 0.5), (0.25, 0.25, 0.75, 0.75), 1 / 7),
    "touching corners": ((0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0), 0.0),
    "disjoint": ((0.0, 0.0, 0.25, 0.25), (0.75, 0.75, 1.0, 1.0), 0.0),
    "two empty": ((0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5), 0.0),
    "empty prediction": ((0.5, 0.5, 0.5, 0.5), (0.0, 0.0, 1.0, 1.0), 0.0),
    "line": ((0.5, 0.0, 0.5, 1.0), (0.0, 0.0, 1.0, 1.0), 0.0),
    "reversed prediction": ((0.75, 0.75, 0.25, 0.25), (0.25, 0.25, 0.75, 0.75), 0.0),
    "prediction outside is clamped": ((-1.0, -1.0, 2.0, 2.0), (0.0, 0.0, 1.0, 1.0), 1.0),
    "target outside is not": ((0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 2.0, 2.0), 0.25),
    "prediction beyond the edge": ((1.5, 0.0, 2.0, 1.0), (0.5, 0.0, 1.0, 1.0), 0.0),
    "subnormal": ((0.0, 0.0, 1e-40, 1e-40), (0.0, 0.0, 1e-40, 1e-40), 0.0),
    "huge target": ((0.0, 0.0, 1.0, 1.0), (-1e30, -1e30, 1e30, 1e30), 0.0),
}


@pytest.mark.parametrize("name", LITERAL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_literal(name: str, dtype: torch.dtype, each_backend: str) -> None:
    pred, target, expected = LITERAL[name]
    boxes = [torch.tensor([box], dtype=dtype) for box in (pred, target)]
    iou, hist = box_reliability(*boxes, fmt="xyxy", bins=8)
    assert iou.item() == pytest.approx(expected, abs=1e-7)
    assert hist[0, 0].nonzero().item() == min(int(expected * 8), 7)
    numpy_iou, _ = box_reliability_numpy(*(box.numpy() for box in boxes), fmt="xyxy", bins=8)
    assert numpy_iou.item() == iou.item()


def test_reliability_of_one_is_in_the_last_bin(each_backend: str) -> None:
    box = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    for bins in (1, 2, 10, 1000):
        assert box_reliability(box, box, bins=bins)[1][0, 0, -1] == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_value_is_read_exactly(dtype: torch.dtype, each_backend: str) -> None:
    bits = torch.arange(2**16, dtype=torch.int32).to(torch.int16)
    values = bits.view(dtype)
    values = values[values.isfinite()]
    box = torch.zeros(len(values), 4, dtype=dtype)
    box[:, 2] = values
    box[:, 3] = 1
    target = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=dtype).expand_as(box)
    iou, _ = box_reliability(box, target, fmt="xyxy")
    assert torch.equal(iou, box_reliability(box.float(), target.float(), fmt="xyxy")[0])


sides = st.floats(-0.5, 1.5, width=32)
positive = st.floats(2**-7, 1.0, width=32)
any_box = st.tuples(sides, sides, positive, positive)
inner_box = st.tuples(
    *[st.floats(0.375, 0.625, width=32)] * 2, *[st.floats(2**-7, 0.75, width=32)] * 2
)
options = settings(deadline=None, max_examples=60)


def score(pred: list, target: list, **kwargs: object) -> tuple[np.ndarray, np.ndarray]:
    return box_reliability_numpy(np.array(pred, np.float32), np.array(target, np.float32), **kwargs)


@options
@given(st.lists(st.tuples(any_box, any_box), min_size=1, max_size=20), st.integers(1, 50))
def test_reliability_is_in_the_unit_interval_and_counted_once(pairs: list, bins: int) -> None:
    pred, target = zip(*pairs, strict=True)
    iou, hist = score(pred, target, bins=bins)
    assert ((iou >= 0) & (iou <= 1)).all()
    assert hist.sum() == len(pairs)


@options
@given(inner_box, inner_box)
def test_symmetric_inside_the_picture(a: tuple, b: tuple) -> None:
    there, back = score([a], [b])[0], score([b], [a])[0]
    if min(a[2:] + b[2:]) >= 1 / 16:
        assert there == back
    else:  # for a small second box, coordinates are relative to its middle
        assert there == pytest.approx(back, abs=1e-5)


@pytest.mark.parametrize("side", [0.0625 - 2**-28, 0.0625, 0.0625 + 2**-27, 0.3])
def test_the_published_arithmetic_from_sides_of_a_sixteenth(side: float, each_backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2000, 4, generator=generator)
    target[:, 2:] = side
    pred = target + 0.3 * side * torch.randn(2000, 4, generator=generator)
    iou = box_reliability(pred, target)[0][0]
    p, t = (
        torch.cat([box[:, :2] - 0.5 * box[:, 2:], box[:, :2] + 0.5 * box[:, 2:]], 1)
        for box in (pred, target)
    )
    p = p.clamp(0, 1)
    shared = (torch.minimum(p[:, 2:], t[:, 2:]) - torch.maximum(p[:, :2], t[:, :2])).clamp(min=0)
    areas = [(box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) for box in (p, t)]
    intersection = shared[:, 0] * shared[:, 1]
    published = intersection / (areas[0] + areas[1] - intersection + 1e-16)
    assert torch.equal(iou, published) == (side >= 1 / 16)
    numpy_iou, _ = box_reliability_numpy(pred.numpy(), target.numpy())
    np.testing.assert_array_equal(numpy_iou[0], iou.numpy())


@pytest.mark.parametrize("side", [1e-3, 0.0624, 0.0626])
def test_small_boxes_anywhere_in_the_picture(side: float, each_backend: str) -> None:
    """Also cut by the picture's edge, and on both sides of the size at which the origin moves."""
    generator = torch.Generator().manual_seed(0)
    middle = torch.rand(2000, 2, generator=generator)
    middle[:1000] = middle[:1000].round() + side * (middle[:1000] - 0.5)  # at the picture's corners
    target = torch.cat([middle, torch.full((2000, 2), side)], 1)
    pred = target + 0.2 * side * torch.randn(2000, 4, generator=generator)
    iou = box_reliability(pred, target)[0][0]
    expected = true_reliability(pred, target, "cxcywh").float()
    torch.testing.assert_close(iou, expected, **TOLERANCES["box_reliability_small"])


@options
@given(inner_box, inner_box, st.integers(-1, 1), st.integers(-1, 1))
def test_translation_inside_the_picture(a: tuple, b: tuple, right: int, down: int) -> None:
    step = np.array([right, down, 0, 0]) / 64
    shifted = score(
        [np.array(a) / 2 + 0.25 * np.array([1, 1, 0, 0]) + step],
        [np.array(b) / 2 + 0.25 * np.array([1, 1, 0, 0]) + step],
    )[0]
    assert shifted == pytest.approx(score([a], [b])[0], abs=2e-5)


@options
@given(st.lists(st.tuples(any_box, any_box), min_size=2, max_size=30), st.randoms())
def test_shards_in_any_order_add_up(pairs: list, random: object) -> None:
    order = list(range(len(pairs)))
    random.shuffle(order)
    pred, target = (np.array(boxes, np.float32) for boxes in zip(*pairs, strict=True))
    iou, hist = score(pred, target, bins=11)
    cut = len(pairs) // 2
    parts = [score(pred[part], target[part], bins=11) for part in (order[:cut], order[cut:])]
    np.testing.assert_array_equal(sum(part[1] for part in parts), hist)
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts], 1), iou[:, order])
