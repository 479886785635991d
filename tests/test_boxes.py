import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from clipvg.boxes import FORMATS, area, convert, iou
from clipvg.errors import InputError


@pytest.mark.parametrize(
    ("box", "source", "target", "expected"),
    [
        ([10, 20, 30, 60], "xyxy", "xywh", [10, 20, 20, 40]),
        ([10, 20, 20, 40], "xywh", "xyxy", [10, 20, 30, 60]),
        ([10, 20, 30, 60], "xyxy", "cxcywh", [20, 40, 20, 40]),
        ([20, 40, 20, 40], "cxcywh", "xywh", [10, 20, 20, 40]),
        ([0, 0, 5, 5], "xyxy", "cxcywh", [2.5, 2.5, 5, 5]),  # halves of integers are kept
    ],
)
def test_convert_literal(box, source, target, expected):
    assert_array_equal(convert(np.array([box]), source, target), [expected])


coordinate = st.integers(-1000, 1000)


@given(st.tuples(coordinate, coordinate, st.integers(0, 1000), st.integers(0, 1000)))
def test_convert_round_trips_between_all_formats(box):
    for source in FORMATS:
        for target in FORMATS:
            assert_array_equal(convert(convert(box, source, target), target, source), box)


def test_convert_keeps_dtype_and_leaves_its_input():
    boxes = np.array([[1, 2, 3, 4]], dtype=np.float32)
    for target in FORMATS:
        result = convert(boxes, "xyxy", target)
        assert result.dtype == np.float32
        assert not np.shares_memory(result, boxes)
    assert convert([[1, 2, 3, 4]], "xyxy", "xywh").dtype.kind == "i"


def test_convert_refuses_what_is_no_box():
    with pytest.raises(InputError, match=r"unknown box format 'xywy': did you mean '"):
        convert([0, 0, 1, 1], "xywy", "xyxy")
    with pytest.raises(InputError, match=r"must have shape \(\.\.\., 4\), but got \(3,\)"):
        convert([0, 0, 1], "xyxy", "xywh")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 4, 4], [0, 0, 4, 4], 1),  # identical
        ([0, 0, 4, 4], [0, 0, 2, 2], 0.25),  # nested quarter
        ([0, 0, 4, 4], [4, 0, 8, 4], 0),  # side by side
        ([0, 0, 4, 4], [2, 2, 6, 6], 4 / 28),  # diagonal
        ([0, 0, 4, 4], [9, 9, 10, 10], 0),  # disjoint
        ([1, 1, 1, 1], [1, 1, 1, 1], 0),  # two empty boxes
        ([0, 0, 4, 4], [5, 5, 3, 3], 0),  # reversed
    ],
)
def test_iou_literal(a, b, expected):
    assert_allclose(iou([a], [b]), [expected], atol=1e-15)
    assert_allclose(iou([b], [a]), [expected], atol=1e-15)


def test_area_of_reversed_boxes_is_zero():
    assert_array_equal(area([[0, 0, 3, 2], [3, 0, 0, 2], [0, 2, 3, 0], [3, 2, 0, 0]]), [6, 0, 0, 0])


def test_unsigned_coordinates_do_not_wrap_around():
    boxes = np.array([[5, 5, 2, 9]], dtype=np.uint8)
    assert convert(boxes, "xyxy", "xywh").tolist() == [[5, 5, -3, 4]]
    assert area(boxes).tolist() == [0]


@pytest.mark.parametrize("dtype", [np.float16, np.int16, np.uint16, np.int32])
def test_small_types_do_not_overflow(dtype):
    """A photograph has more pixels than float16 and int16 can count."""
    a, b = np.array([[[0, 0, 640, 480]], [[0, 0, 640, 240]]], dtype=dtype)
    assert area(a).tolist() == [640 * 480]
    assert iou(a, b).tolist() == [0.5]
    assert iou(np.zeros_like(a), np.zeros_like(a)).tolist() == [0]
    large = np.array([[30720, 28672, 1024, 2048]], dtype=dtype)
    corners = convert(large, "xywh", "xyxy")
    assert corners.tolist() == [[30720, 28672, 31744, 30720]]
    assert convert(corners, "xyxy", "cxcywh").tolist() == [[31232, 29696, 1024, 2048]]


def test_half_precision_is_kept_by_convert_and_left_by_area_and_iou():
    boxes = np.array([[10, 20, 30, 60]], dtype=np.float16)
    assert convert(boxes, "xyxy", "cxcywh").dtype == np.float16
    assert area(boxes).dtype == iou(boxes, boxes).dtype == np.float32


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "float32", "float64"])
def test_iou_of_tensors_is_that_of_arrays_in_every_type(dtype):
    torch = pytest.importorskip("torch")
    from clipvg.ops.boxes import iou as tensor_iou

    kind = getattr(torch, dtype)
    a = torch.tensor([[0, 0, 640, 480], [3, 3, 3, 3], [0, 0, 64, 64]]).to(kind)
    b = torch.tensor([[0, 0, 640, 240], [3, 3, 3, 3], [32, 0, 96, 64]]).to(kind)
    found = tensor_iou(a, b)
    assert found.dtype == (kind if dtype == "float64" else torch.float32)
    assert_allclose(found, [0.5, 0, 1 / 3], rtol=1e-6)
    assert_allclose(iou(a.float().numpy(), b.float().numpy()), found, rtol=1e-6)


def test_a_tensor_that_numpy_cannot_hold_is_named():
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match=r"BFloat16.*tensor\.float\(\)\.cpu\(\)"):
        area(torch.zeros(1, 4, dtype=torch.bfloat16))


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_iou_of_two_tables_is_that_of_the_definition_to_the_bit(count, rng):
    a, b = rng.uniform(-100, 600, (2, count, 4))  # some are reversed
    b[: count // 4] = a[: count // 4]
    a[count // 2 : count // 2 + 5] = b[count // 2 : count // 2 + 5, [0, 1, 0, 1]]
    a[-1:, 2] = np.nan
    broadcast = iou(a[:, None], b[:, None])[:, 0]  # broadcasting never runs compiled code
    assert_array_equal(iou(a, b), broadcast)
    assert_array_equal(iou(np.asfortranarray(a), b[::-1][::-1]), broadcast)


@pytest.mark.parametrize("eps", [-0.5, 0.0, float("nan"), float("inf")])
def test_an_eps_that_leaves_the_unit_interval_is_refused(eps):
    boxes = np.array([[0.0, 0.0, 1.0, 1.0]])
    with pytest.raises(InputError, match="eps is"):
        iou(boxes, boxes, eps=eps)
