"""Findings of a label check, each kind on its own."""

import numpy as np
import pytest
from PIL import ExifTags, Image

from clipvg.labels import LabelTable, check_labels, read_labels
from clipvg.labels.check.names import with_plain_names


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (100, 50)).save(tmp_path / "a.png")
    Image.new("RGB", (100, 50)).save(tmp_path / "sub" / "b.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (100, 50)).save(tmp_path / "sideways.png", exif=exif)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.effect_noise((100, 50), 90).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:1500])
    return tmp_path


def make(folder, rows, **columns):
    images, expressions, boxes = zip(*rows, strict=True)
    return LabelTable.from_columns(
        image=images, expression=expressions, box=boxes, images=folder, **columns
    )


def kinds(labels, **options):
    findings = check_labels(labels, **options).findings
    return sorted((found.rows.tolist(), found.kind, found.severity) for found in findings)


def test_good_labels_have_no_findings(folder):
    labels = make(folder, [("a.png", "dog", [0, 0, 100, 50]), ("sub/b.png", "x", [9, 9, 50, 50])])
    checked = check_labels(labels)
    assert checked.ok
    assert checked.is_clean
    assert checked.findings == ()
    assert str(checked) == "2 labels of 2 images"
    assert checked.to_dict() == {
        "labels": 2,
        "images": 2,
        "splits": {"": {"labels": 2, "images": 2}},
        "sources": {"": {"labels": 2, "images": 2}},
        "fullest_image": {"image": "a.png", "labels": 1},
        "findings": [],
    }


def test_each_kind_is_found_in_its_row(folder):
    labels = make(
        folder,
        [
            ("a.png", "dog", [90, 0, 110, 50]),
            ("a.png", "cat", [5, 5, 5, 9]),
            ("a.png", " ", [1, 1, 20, 20]),
            ("a.png", "cow", [9, 1, 2, 2]),
            ("a.png", "ant", [1, np.inf, 2, 2]),
            ("none.png", "dog", [1, 1, 20, 20]),
            ("broken.png", "dog", [1, 1, 20, 20]),
            ("a.png", "elk", [1, 1, 20, 20]),
            ("sideways.png", "elk", [1, 1, 20, 20]),
            ("a.png", "flea", [1, 1, 20, 1.5]),
            ("a.png", "fox", [100, 1, 120, 20]),
            ("cut.jpg", "elk", [1, 1, 20, 20]),
        ],
        weight=[1, 1, 1, 1, 1, 1, 1, -1, 1, 1, 1, 1],
    )
    assert kinds(labels) == [
        ([0], "outside", "note"),
        ([1], "empty-box", "note"),
        ([2], "empty-expression", "error"),
        ([3], "reversed", "error"),
        ([4], "value", "error"),
        ([5], "missing-image", "error"),
        ([6, 11], "unreadable-image", "note"),
        ([7], "value", "error"),
        ([8], "exif", "note"),
        ([9], "tiny", "note"),
        ([10], "outside", "warning"),
    ]
    checked = check_labels(labels)
    assert not checked.ok
    found = {each.kind: each for each in checked.findings}
    assert found["reversed"].examples == ("box (9, 1, 2, 2) has x2 < x1; expected xyxy pixels",)
    assert found["reversed"].message.startswith(
        "boxes that end before they begin: 1; row 3: box (9, 1, 2, 2) has x2 < x1; "
    )
    assert "sideways.png is stored as 100x50 and seen as 50x100" in found["exif"].message
    severities = [each.severity for each in checked.findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)


def test_without_images_the_size_columns_count():
    labels = make(
        None,
        [("x.png", "dog", [0, 0, 30, 30]), ("x.png", "cat", [0, 0, 30, 30])],
        width=[20, None],
        height=[40, None],
    )
    assert kinds(labels, open_images=False) == [([0], "outside", "note")]


def test_other_columns(folder):
    labels = make(
        folder,
        [("a.png", "a", [0, 0, 3, 3]), ("a.png", "b", [0, 0, 9, 3]), ("a.png", "c", [2, 2, 3, 3]),
         ("a.png", "d", [1, 0, 3, 3])],
        box_format=["xyxy", "xywh", "diagonal", None],
        width=[100, 90, None, None],
        height=[50, 50, None, None],
        truth=[[1, 1, 0, 0], [np.nan] * 4, [0, 0, np.inf, 1], [0, 0, 1, 1]],
        **{"reliability.m": [0.5, np.nan, 0, 1.5]},
    )  # fmt: skip
    assert kinds(labels) == [
        ([0, 2], "truth", "note"),
        ([1], "size", "note"),
        ([2], "format", "error"),
        ([3], "value", "error"),
    ]


def test_xywh_boxes_are_checked_as_written(folder):
    rows = [("a.png", "dog", [90, 0, 20, 50]), ("a.png", "cat", [9, 9, -1, 5]),
            ("a.png", "cow", [9, 9, 5, 5])]  # fmt: skip
    labels = make(folder, rows, box_format="xywh")
    assert kinds(labels) == [([0], "outside", "note"), ([1], "reversed", "error")]
    assert "has a negative width; expected xywh pixels" in check_labels(labels).findings[0].message


def test_what_is_said_twice(folder):
    labels = make(
        folder,
        [
            ("a.png", "dog", [1, 1, 20, 20]),
            ("a.png", " Dog", [1, 1, 20, 20]),
            ("a.png", "cat", [1, 1, 20, 20]),
            ("sub/b.png", "dog", [1, 1, 20, 20]),
            ("a.png", "cat", [5, 1, 20, 20]),
            ("./a.png", "dog", [1, 1, 20, 20]),
        ],
    )
    assert kinds(labels) == [([1, 5], "duplicate", "warning"), ([2, 4], "ambiguous", "note")]
    assert check_labels(labels).images == 2


def test_names_of_images(folder):
    box = [1, 1, 20, 20]
    names = ["sub\\b.png", "A.PNG", "a.png ", "../a.png", "https://host/a.png", "c.png", "C.png"]
    labels = make(folder, [(name, "dog", box) for name in names])
    found = kinds(labels)
    assert ([0], "path", "error") in found
    assert ([2], "path", "error") in found
    assert ([3], "path", "error") in found
    assert ([4], "path", "error") in found
    assert ([1], "case", "warning") in found  # on disk it is a.png
    assert ([5, 6], "case", "warning") in found
    assert 0 not in next(rows for rows, kind, _ in found if kind == "missing-image")


@pytest.mark.parametrize(
    ("name", "root", "remedy"),
    [
        ("sub/b.png", "sub", "The names begin with sub/ already: pass --images {folder}."),
        ("x/a.png", "", "'a.png' is in --images: take x/ from the names."),
        ("b.png", "", "It is in {folder}/sub: pass --images {folder}/sub."),
        ("a.jpg", "", "'a.png' is there: is its ending right?"),
        ("A.png", "", "Write 'a.png' for it: upper and lower case count."),
        ("nowhere.png", "", "Check --images {folder}, or leave these labels out."),
    ],
)
def test_a_missing_image_is_looked_for(folder, name, root, remedy):
    labels = make(folder / root, [(name, "dog", [1, 1, 20, 20])])
    [found] = [each for each in check_labels(labels).findings if each.kind == "missing-image"]
    assert found.remedy == remedy.format(folder=folder)


def test_expressions(folder):
    long = "the " + "very " * 80 + "big dog"
    texts = [long, "собака", "a dog\x08", "the “best” dog – here", "very " * 30, "été"]
    labels = make(folder, [("a.png", text, [i, 1, 40, 40]) for i, text in enumerate(texts)])
    assert kinds(labels) == [
        ([0], "too-long", "warning"),
        ([1, 5], "characters", "note"),
        ([2], "characters", "note"),
    ]
    found = {each.title: each for each in check_labels(labels).findings}
    assert any("85 tokens" in each.message for each in found.values())


def test_images_that_others_have(folder):
    box = [1, 1, 20, 20]
    ours = make(
        folder,
        [("./train2014/COCO_train2014_000000000009.jpg", "dog", box), ("a.png", "dog", box),
         ("c.png", "dog", box), ("x\\y.png", "dog", box)],
    )  # fmt: skip
    theirs = make(
        None,
        [("val2017/000000000009.jpg", "cat", box), ("./a.png", "cat", box), ("x/y.png", "a", box)],
    )
    checked = check_labels(ours, open_images=False, against={"val.pth": theirs})
    [leak] = [found for found in checked.findings if found.kind == "leak"]
    assert leak.rows.tolist() == [0, 1, 3]
    assert leak.severity == "warning"
    assert leak.message.startswith("labels on images of val.pth, 3 images: 3; row 0: ")


@pytest.mark.parametrize(
    ("path", "split", "said"),
    [
        ("unc_val.pth", None, "RefCOCO has 10,834 on 1,500 images"),
        ("unc+_testA.pth", None, "RefCOCO+ has 5,726 on 750 images"),
        ("refcoco+/refs(unc).p", "testB", "RefCOCO+ has 4,889 on 750 images"),
        (
            "refcocog_val.json",
            None,
            "RefCOCOg (umd) has 4,896 on 1,300 images or RefCOCOg (google)",
        ),
        ("refcoco_testA.json.gz", None, "RefCOCO has 5,657 on 750 images"),
    ],
)
def test_counts_are_compared_with_published_ones(path, split, said):
    columns = {"split": split} if split else {}
    labels = make(None, [("a.png", "dog", [1, 1, 20, 20])], **columns)
    checked = check_labels(labels, open_images=False, files=[(path, 1)])
    [found] = checked.findings
    assert (found.kind, found.severity, found.count) == ("count", "warning", 1)
    assert "1 expressions on 1 images" in found.message
    assert said in found.message


@pytest.mark.parametrize("path", ["unc_train_pseudo.pth", "mine.jsonl", "uncle_val.pth"])
def test_other_files_have_no_published_count(path):
    labels = make(None, [("a.png", "dog", [1, 1, 20, 20])])
    assert check_labels(labels, open_images=False, files=[(path, 1)]).is_clean


def test_rows_are_named_with_their_file(folder):
    labels = make(folder, [("a.png", text, [i, 1, 50, 50]) for i, text in enumerate("ab c")])
    [found] = check_labels(labels, files=[("one.csv", 1), ("two.csv", 3)]).findings
    assert found.places == ("two.csv row 1",)
    assert found.rows.tolist() == [2]


def test_counts_by_split_and_source(folder):
    rows = [("a.png", text, [i, 1, 50, 50]) for i, text in enumerate("abcd")]
    labels = make(folder, rows, split=["val", "val", None, "test"], source=["x", "y", "y", "y"])
    checked = check_labels(labels)
    assert checked.splits == {"": (1, 1), "test": (1, 1), "val": (2, 1)}
    assert checked.sources == {"x": (1, 1), "y": (3, 1)}


def test_no_labels():
    table = make(None, [("a.png", "dog", [1, 1, 20, 20])]).select([])
    assert check_labels(table).labels == 0
    assert check_labels(table).is_clean


def test_names_of_windows_are_read_with_slashes(folder):
    path = folder / "labels.csv"
    path.write_text("image,expression,x1,y1,x2,y2\nsub\\b.png,dog,1,1,20,20\n./a.png,x,1,1,9,9\n")
    with pytest.warns(UserWarning, match=r"1 names of images are written with \\, as on Windows"):
        labels = read_labels(path, images=folder)
    assert labels.image_names == ["sub/b.png", "a.png"]
    assert check_labels(labels).is_clean
    kept = read_labels(path, images=folder, on_error="keep")
    assert kept.image_names == ["sub\\b.png", "a.png"]


def test_what_is_no_box_is_no_second_box(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("image,expression,box\na.png,dog,hello\na.png,dog,1 2 30 40\n")
    [found] = check_labels(read_labels(path, on_error="keep"), open_images=False).findings
    assert (found.kind, found.rows.tolist()) == ("value", [0])
    assert "row 0: box 'hello' is not four numbers" in found.message


def test_plain_names_stay_in_their_table() -> None:
    labels = LabelTable.from_columns(image=["b/a.jpg"], expression=["dog"], box=[[1, 2, 3, 4]])
    assert with_plain_names(labels, backslashes=True) is labels
    dotted = labels.with_column("image", ["./a.jpg"])
    assert with_plain_names(dotted, backslashes=True).image_names == ["a.jpg"]
