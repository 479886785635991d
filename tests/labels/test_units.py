"""Boxes in other formats and units: read as asked, refused if they look like another one."""

import json

import numpy as np
import pytest
from PIL import Image

from clipvg.boxes import convert
from clipvg.errors import InputError
from clipvg.labels import LabelTable, ReadOptions, check_labels, read_labels

WIDTH, HEIGHT = 640, 480
SCALE = {"pixel": 1, "unit": 1 / np.array([WIDTH, HEIGHT] * 2),
         "thousand": 1000 / np.array([WIDTH, HEIGHT] * 2)}  # fmt: skip
READINGS = [
    (box_format, box_unit)
    for box_format in ("xyxy", "xywh", "cxcywh")
    for box_unit in ("pixel", "unit", "thousand")
]


@pytest.fixture
def boxes():
    """(30, 4) xyxy pixels, as annotators draw them."""
    state = np.random.default_rng(0)
    low = state.uniform(0, 0.7, (30, 2)) * [WIDTH, HEIGHT]
    span = state.uniform(20, [WIDTH, HEIGHT] - low)
    return np.concatenate([low, low + span], axis=1).round(2)


def write(path, boxes, **columns):
    with path.open("w") as file:
        for i, box in enumerate(boxes):
            row = {"image": f"{i % 7}.png", "expression": "red dog", "box": box.tolist(), **columns}
            file.write(json.dumps(row) + "\n")
    return path


def as_written(boxes, box_format, box_unit):
    return convert(boxes, "xyxy", box_format) * SCALE[box_unit]


@pytest.fixture
def images(tmp_path):
    for i in range(7):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize(("box_format", "box_unit"), READINGS)
def test_all_formats_and_units_are_read(boxes, images, box_format, box_unit):
    path = write(images / "labels.jsonl", as_written(boxes, box_format, box_unit))
    options = {"box_format": box_format, "box_unit": box_unit}
    labels = read_labels(path, images=images, options=ReadOptions(**options))
    np.testing.assert_allclose(labels.boxes(), boxes, atol=1e-3)
    assert check_labels(labels).ok
    sized = write(path, as_written(boxes, box_format, box_unit), width=WIDTH, height=HEIGHT)
    np.testing.assert_allclose(
        read_labels(sized, options=ReadOptions(**options)).boxes(), boxes, atol=1e-3
    )


@pytest.mark.parametrize("said", ["xyxy", "xywh"])
@pytest.mark.parametrize(("box_format", "box_unit"), READINGS)
def test_what_boxes_look_like_is_said(boxes, images, box_format, box_unit, said):
    path = write(images / "labels.jsonl", as_written(boxes, box_format, box_unit), box_format=said)
    if (box_format, box_unit) == (said, "pixel"):
        read_labels(path, images=images)
        return
    kind = "format" if box_unit == "pixel" else "unit"
    [found] = [
        each
        for each in check_labels(read_labels(path, images=images, on_error="keep")).findings
        if each.kind in ("format", "unit", "reversed", "outside")
    ]
    assert (found.kind, found.severity) == (kind, "error")
    for on_error in ("raise", "drop"):
        with pytest.raises(InputError, match=r"boxes that make no sense as") as caught:
            read_labels(path, images=images, on_error=on_error)
    for option, value, usual in (
        ("box_format", box_format, said),
        ("box_unit", box_unit, "pixel"),
    ):
        assert (f"{option}={value!r}" in str(caught.value)) == (value != usual)


def test_coco_boxes_under_box_are_no_reversed_ones(boxes, tmp_path):
    path = write(tmp_path / "coco.jsonl", convert(boxes, "xyxy", "xywh"))
    with pytest.raises(InputError, match=r"look like xywh \[x, y, width, height\] in pixels"):
        read_labels(path, on_error="drop")
    with pytest.warns(UserWarning, match="look like xywh"):
        assert not check_labels(
            read_labels(path, on_error="drop", options=ReadOptions(box_format="xyxy"))
        ).is_clean
    labels = read_labels(path, options=ReadOptions(box_format="xywh"))
    np.testing.assert_allclose(labels.boxes(), boxes, atol=1e-3)
    assert labels.is_xywh().all()  # as written


def test_a_generators_own_file_is_refused(boxes, images):
    torch = pytest.importorskip("torch")
    path = images / "unc_train_pseudo_split0.pth"
    none = "useless placeholder"
    torch.save(
        [(f"{i % 7}.png", none, box.tolist(), "dog", none) for i, box in enumerate(boxes)], path
    )
    with pytest.raises(InputError, match=r"look like xyxy .*box_format='xyxy'"):
        read_labels(path, images=images)
    labels = read_labels(path, images=images, options=ReadOptions(box_format="xyxy"))
    np.testing.assert_allclose(labels.boxes(), boxes, atol=1e-3)


def test_many_corners_are_told_from_sides_without_sizes(boxes):
    many = np.concatenate([boxes + [i % 50 + 1, i % 40 + 1] * 2 for i in range(10)])
    labels = LabelTable.from_columns(
        image=["a.jpg"] * len(many), expression=["dog"] * len(many), box=many, box_format="xywh"
    )
    [found] = [x for x in check_labels(labels, open_images=False).findings if x.kind == "format"]
    assert found.remedy == "Read with box_format='xyxy'."


def test_thousandths_of_large_photographs_are_told(boxes):
    many = np.concatenate([as_written(boxes, "xyxy", "thousand")] * 8)
    labels = LabelTable.from_columns(
        image=["a.jpg"] * len(many), expression=["dog"] * len(many), box=many,
        width=[4000] * len(many), height=[3000] * len(many),
    )  # fmt: skip
    [found] = [x for x in check_labels(labels, open_images=False).findings if x.kind == "unit"]
    assert found.remedy == "Read with box_unit='thousand'."


def test_boxes_of_larger_images_are_outside_and_no_thousandths(boxes):
    labels = LabelTable.from_columns(
        image=["a.jpg"] * 30, expression=["dog"] * 30, box=boxes, width=[320] * 30,
        height=[240] * 30,
    )  # fmt: skip
    kinds = {found.kind for found in check_labels(labels, open_images=False).findings}
    assert "outside" in kinds
    assert not kinds & {"unit", "format"}


def test_columns_say_format_and_unit(boxes, images):
    columns = {"box_format": "cxcywh", "box_unit": "thousand", "width": WIDTH, "height": HEIGHT}
    path = write(images / "l.jsonl", as_written(boxes, "cxcywh", "thousand"), **columns)
    labels = read_labels(path)
    np.testing.assert_allclose(labels.boxes(), boxes, atol=1e-3)
    assert "box_unit" not in labels.table.column_names


def test_a_size_that_is_not_found(boxes, tmp_path):
    path = write(tmp_path / "l.jsonl", as_written(boxes, "xyxy", "unit"))
    with pytest.raises(InputError, match=r"size of '0\.png' cannot be read, and 30 boxes"):
        read_labels(path, options=ReadOptions(box_unit="unit"))
    with pytest.warns(UserWarning, match="dropped 30 of 30 rows"):
        assert len(read_labels(path, on_error="drop", options=ReadOptions(box_unit="unit"))) == 0


def test_unknown_words(tmp_path):
    with pytest.raises(InputError, match="box_format is 'xyhw', expected one of 'xyxy'"):
        read_labels("a.csv", options=ReadOptions(box_format="xyhw"))
    with pytest.raises(InputError, match="box_unit is 'percent', expected one of 'pixel'"):
        read_labels("a.csv", options=ReadOptions(box_unit="percent"))


def test_shares_with_that_of_a_whole_image_and_shares_among_pixels(tmp_path):
    shares = [[0.1, 0.2, 0.5, 0.6 + n / 100] for n in range(9)]
    whole = write(tmp_path / "whole.jsonl", np.array([*shares, [0, 0, 1, 1]]))
    with pytest.raises(InputError, match=r"from 0 to 1: 9; .*Read with box_unit='unit'\."):
        read_labels(whole)
    mixed = write(tmp_path / "mixed.jsonl", np.array([*shares, *[[10, 20, 90, 80]] * 9]))
    with pytest.raises(InputError, match=r"among boxes in pixels: 9; .*a file of their own"):
        read_labels(mixed)
