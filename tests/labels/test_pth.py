import json
import math
import shutil

import numpy as np
import pytest
import torch

from clipvg.errors import InputError
from clipvg.labels import LabelTable, ReadOptions, read_labels

PARSE = [("r1", ["man"]), ("r8", ["none", "red"])]
FIVE = [
    ("COCO_train2014_000000000009.jpg", "482000.pth", [1.9, 2, 3.25, 4], "Red man", PARSE),
    ("b.jpg", "useless placeholder", [0, 0, 5.5, 6], "naïve “dog”", "useless placeholder"),
]
THREE = [("1000.jpg", [1.5, 2, 3, 4], "Circle"), ("1001.jpg", [0, 0, 5, 6], "dog")]
LAYOUTS = ["unc", "unc+", "gref", "gref_umd", "referit", "flickr"]


def records(layout):
    return THREE if layout == "flickr" else FIVE


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_reads_and_writes_back_equal(tmp_path, layout, zipped):
    path = tmp_path / f"{layout}_train_pseudo.pth"
    torch.save(records(layout), path, _use_new_zipfile_serialization=zipped)
    labels = read_labels(path)
    sides = layout not in ("referit", "flickr")
    x, y, z, w = records(layout)[0][1 if layout == "flickr" else 2]
    expected = [x, y, x + z, y + w] if sides else [x, y, z, w]
    assert labels.boxes()[0].tolist() == pytest.approx(expected)
    assert labels.expressions[0] == records(layout)[0][-1 if layout == "flickr" else 3]
    if layout != "flickr":
        assert json.loads(labels.table.column("pth.attributes")[0].as_py()) == [
            ["r1", ["man"]], ["r8", ["none", "red"]],
        ]  # fmt: skip
    out = tmp_path / "out.pth"
    labels.write(out, layout=layout)
    assert torch.load(out, weights_only=True) == records(layout)
    assert read_labels(out, options=ReadOptions(layout=layout)).table.equals(labels.table)


def test_integer_cut_comes_before_conversion(tmp_path):
    torch.save(FIVE, tmp_path / "unc_val.pth")
    assert read_labels(tmp_path / "unc_val.pth").boxes(integer=True)[0].tolist() == [1, 2, 4, 6]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        np.array,
        lambda box: np.array(box, dtype=np.float32),
        lambda box: np.array(box, dtype=">i4"),
        lambda box: [np.float64(v) for v in box],
        lambda box: [np.int64(v) for v in box],
        lambda box: tuple(np.float32(v) for v in box),
        lambda box: np.array([box]),
        lambda box: np.asfortranarray(np.array(box, dtype=np.int16)),
        torch.tensor,
        lambda box: torch.tensor([[0, *box, 0]], dtype=torch.float64)[:, 1:5],
        lambda box: np.array(box, dtype=object),
    ],
)
def test_arrays_scalars_and_tensors_inside(tmp_path, wrap, zipped):
    path = tmp_path / "unc_val.pth"
    rows = [("a.jpg", "s", wrap([1, 2, 3, 4]), np.str_("dog"), PARSE)]
    torch.save(rows, path, _use_new_zipfile_serialization=zipped)
    assert read_labels(path).boxes().tolist() == [[1, 2, 4, 6]]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol(tmp_path, protocol):
    path = tmp_path / "referit_val.pth"
    rows = [["a.jpg", 1, np.array([1, 2, 3, 4.0]), "dog", None]]
    torch.save(rows, path, pickle_protocol=protocol)
    assert read_labels(path).boxes().tolist() == [[1, 2, 3, 4]]


def test_numpy_names_of_version_1(tmp_path):
    path = tmp_path / "unc_val.pth"
    rows = [("a.jpg", "s", np.array([1, 2, 3, 4.0]), "dog", "t")]
    torch.save(rows, path, _use_new_zipfile_serialization=False)
    old = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != path.read_bytes()
    path.write_bytes(old)
    assert read_labels(path).boxes().tolist() == [[1, 2, 4, 6]]


def test_published_outputs_lists_and_extra_fields(data_dir, tmp_path):
    folder = data_dir / "official_mini" / "official_outputs"
    path = folder / "unc_train_pseudo_bad_label_0_4.pth"
    labels = read_labels(path)
    plain = torch.load(path, weights_only=True)
    extra = [json.loads(text)[0] for text in labels.table.column("pth.extra").to_pylist()]
    assert extra == [record[5] for record in plain]
    for path in sorted(folder.glob("*.pth")):
        out = tmp_path / path.name
        read_labels(path).write(out)
        written = torch.load(out, weights_only=True)
        assert [list(record) for record in written] == torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("unc_val.pth", "unc"),
        ("unc+_testA.pth", "unc+"),
        ("gref_umd_test.pth", "gref_umd"),
        ("gref_train_pseudo.pth", "gref"),
        ("1_unc+_train_pseudo_template_0_5.pth", "unc+"),
        ("test.pth", None),
        ("uncle.pth", None),
        ("flickr.pth", "flickr"),
    ],
)
def test_layout_from_the_name(tmp_path, name, layout):
    from clipvg.labels.formats.pth import LAYOUTS as KNOWN
    from clipvg.labels.formats.pth import find_layout

    if layout is None:
        with pytest.raises(
            InputError, match=r"choose --layout from unc, unc\+, gref, gref_umd, re"
        ):
            find_layout(tmp_path / name)
    else:
        assert find_layout(tmp_path / name) is KNOWN[layout]


@pytest.mark.parametrize(
    ("content", "layout", "expected"),
    [
        (FIVE, "flickr", "is the layout right?"),
        (THREE, "unc", "is the layout right?"),
        ({"model": 1}, "unc", "holds a dict, not a list of labels; is it a checkpoint?"),
        (
            [("a", "b", [1, 2, 3], "e", "t")],
            "unc",
            "row 0: box '[1.0, 2.0, 3.0]' is not four numbers",
        ),
        ([("a", "b", [1, 2, -3, 4], "e", "t")], "unc", "has a negative width; expected xywh"),
        ([("a", "b", [1, 2, math.nan, 4], "e", "t")], "unc", "is not four finite numbers"),
        ([("a", "b", [1, 2, 3, 4], "\ud800", "t")], "unc", "not valid Unicode"),
        (FIVE, "coco", "unknown layout 'coco'; choose --layout from unc"),
    ],
)
def test_wrong_content_is_one_line(tmp_path, content, layout, expected):
    path = tmp_path / "labels.pth"
    torch.save(content, path)
    with pytest.raises(InputError) as caught:
        read_labels(path, options=ReadOptions(layout=layout))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_writing_from_other_formats(tmp_path):
    labels = LabelTable.from_columns(
        image=["a"], expression=["E"], box=[[1, 2, 3.5, 4]], truth=[[0, 0, 1, 1]]
    )
    labels.write(tmp_path / "unc_val.pth")
    assert torch.load(tmp_path / "unc_val.pth", weights_only=True) == [
        ("a", "useless placeholder", [1, 2, 2.5, 2], "E", "useless placeholder")
    ]
    with pytest.raises(InputError, match="choose --layout"):
        labels.write(tmp_path / "test.pth")
    assert not (tmp_path / "test.pth").exists()


def test_every_label_file_of_the_reference_goes_both_ways(data_dir, tmp_path):
    for path in sorted((data_dir / "official_mini").glob("*/*_*.pth")):
        if path.parent.name not in ("unc", "referit", "flickr"):
            continue
        labels = read_labels(path)
        shutil.copy(path, tmp_path / "copy.pth")
        labels.write(tmp_path / path.name)
        assert torch.load(tmp_path / path.name, weights_only=True) == torch.load(
            path, weights_only=True
        )


def test_a_scored_file_is_written_with_its_reliabilities_or_not_at_all(tmp_path):
    labels = LabelTable.from_columns(image=["a.jpg"], expression=["dog"], box=[[1, 2, 3, 4]])
    scored = labels.with_column("reliability.published", [0.25])
    bad, results = tmp_path / "unc_train_bad_label_0.pth", tmp_path / "unc_x_iou_result.pth"
    for table, path in ((labels, bad), (labels, results), (scored, results)):
        with pytest.raises(InputError, match=r"end their records with a reliability, which row 0"):
            table.write(path)
        assert not path.exists()
    scored.write(bad)
    assert read_labels(bad).reliability("published").tolist() == [0.25]
