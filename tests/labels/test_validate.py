import numpy as np
import pytest
from PIL import ExifTags, Image

from clipvg.labels import LabelTable


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (100, 50)).save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (100, 50)).save(tmp_path / "sideways.png", exif=exif)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return tmp_path


def kinds(validation):
    return [(problem.row, problem.kind, problem.fatal) for problem in validation.problems]


def make(folder, rows, **columns):
    images, expressions, boxes = zip(*rows, strict=True)
    return LabelTable.from_columns(
        image=images, expression=expressions, box=boxes, images=folder, **columns
    )


def test_good_labels_have_no_findings(folder):
    labels = make(
        folder, [("a.png", "dog", [0, 0, 100, 50]), ("sideways.png", "x", [0, 0, 50, 100])]
    )
    validation = labels.validate()
    assert validation.ok
    assert validation.problems == []
    assert validation.summary() == "2 labels, 0 findings"


def test_each_kind_is_found_in_its_row(folder):
    labels = make(
        folder,
        [
            ("a.png", "dog", [90, 0, 110, 50]),
            ("a.png", "dog", [5, 5, 5, 9]),
            ("a.png", " ", [1, 1, 2, 2]),
            ("a.png", "dog", [9, 1, 2, 2]),
            ("a.png", "dog", [1, np.inf, 2, 2]),
            ("none.png", "dog", [1, 1, 2, 2]),
            ("broken.png", "dog", [1, 1, 2, 2]),
            ("a.png", "dog", [1, 1, 2, 2]),
        ],
        weight=[1, 1, 1, 1, 1, 1, 1, -1],
    )
    validation = labels.validate()
    assert not validation.ok
    assert kinds(validation) == [
        (0, "box outside the image", False),
        (1, "empty box", False),
        (2, "empty expression", True),
        (3, "reversed box", True),
        (4, "box not finite", True),
        (5, "missing image", True),
        (6, "unreadable image", True),
        (7, "bad weight", True),
    ]
    assert validation.problems[0].message == (
        "box (90, 0, 110, 50) reaches outside the 100x50 image"
    )
    assert "error: reversed box: 1 (row 3: box (9, 1, 2, 2) has x2 < x1" in validation.summary()


def test_without_images_the_size_columns_count(folder):
    labels = make(
        None,
        [("x.png", "dog", [0, 0, 30, 30]), ("x.png", "dog", [0, 0, 30, 30])],
        width=[20, None],
        height=[40, None],
    )
    assert kinds(labels.validate(check_images=False)) == [(0, "box outside the image", False)]


def test_other_columns(folder):
    labels = make(
        folder,
        [("a.png", "dog", [0, 0, 3, 3])] * 4,
        box_format=["xyxy", "xywh", "cxcywh", None],
        width=[100, 90, None, None],
        height=[50, 50, None, None],
        truth=[[1, 1, 0, 0], [np.nan] * 4, [0, 0, np.inf, 1], [0, 0, 1, 1]],
        **{"reliability.m": [0.5, np.nan, 0, 1.5]},
    )
    assert sorted(kinds(labels.validate())) == [
        (0, "odd true box", False),
        (1, "size differs", False),
        (2, "odd true box", False),
        (2, "unknown box format", True),
        (3, "bad reliability", True),
    ]


def test_xywh_boxes_are_checked_as_written(folder):
    rows = [
        ("a.png", "dog", [90, 0, 20, 50]),
        ("a.png", "d", [9, 9, -1, 5]),
        ("a.png", "d", [9, 9, 5, 5]),
    ]
    labels = make(folder, rows, box_format="xywh")
    findings = labels.validate().problems
    assert [(problem.row, problem.kind) for problem in findings] == [
        (0, "box outside the image"),
        (1, "reversed box"),
    ]
    assert "has a negative width; expected xywh pixels" in findings[1].message


def test_summary_shows_three_examples(folder):
    labels = make(folder, [("none.png", "dog", [0, 0, 1, 1])] * 5)
    assert "missing image: 5 (row 0: " in labels.validate().summary()
    assert labels.validate().summary().endswith("; ...)")
