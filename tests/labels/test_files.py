import os

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from clipvg.errors import InputError
from clipvg.labels import LabelTable, ReadOptions, read_labels


@pytest.fixture
def labels() -> LabelTable:
    return LabelTable.from_columns(
        image=["a.jpg", "sub/b,c.jpg", "007"],
        expression=['the "red" dog', "naïve façade — “quoted”,\nsecond line", "NA"],
        box=[[0.1, 0.2, 30.3, 40], [1, 2, 3, 4], [1e-7, 0, 12345.678, 1]],
        box_format=["xyxy", "xywh", "xyxy"],
        source=["template", None, "caption"],
        width=[100, None, 100],
        weight=[0.1, np.nan, 2],
        truth=[[1, 2, 3, 4], [np.nan] * 4, [5, 6, 7, 8]],
        code=["007", "", "x"],
        **{
            "reliability.m1": [0.1, np.nan, 1.0],
            "pth.attributes": ['[["r1", ["none"]]]', None, "1"],
        },
    )


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_round_trip_keeps_every_value(labels, tmp_path, suffix):
    path = tmp_path / f"labels{suffix}"
    labels.write(path)
    again = read_labels(path)
    assert again.table.select(labels.table.column_names[:8]).equals(labels.table.select(range(8)))
    assert_array_equal(again.reliability("m1"), labels.reliability("m1"))
    assert again.fingerprint() == labels.fingerprint()
    codes = again.table.column("code").to_pylist()
    assert [code or "" for code in codes] == ["007", "", "x"]  # CSV cannot tell "" from null
    assert os.listdir(tmp_path) == [path.name]


def test_failed_write_keeps_the_old_file(labels, tmp_path, monkeypatch):
    path = tmp_path / "labels.jsonl"
    path.write_text("old")
    monkeypatch.setattr("clipvg.labels.formats.tables.json.dumps", lambda *a, **k: 1 / 0)
    with pytest.raises(InputError, match="cannot be written in jsonl files"):
        labels.write(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


def test_several_files_and_a_source(labels, tmp_path):
    labels.write(tmp_path / "a.parquet")
    labels.drop_columns(["source", "weight"]).write(tmp_path / "b.csv")
    both = read_labels([tmp_path / "a.parquet", tmp_path / "b.csv"], images="x", source="relation")
    assert len(both) == 6
    assert both.sources() == ["relation"] * 6
    assert both.images.name == "x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image,expression,x1,y1,x2,y2\na.jpg,dog,1,2,3.5,4\n", [1, 2, 3.5, 4]),
        ("image,expression,x,y,w,h\na.jpg,dog,1,2,3.5,4\n", [1, 2, 4.5, 6]),
        ('image,expression,box\na.jpg,dog,"[1, 2, 3.5, 4]"\n', [1, 2, 3.5, 4]),
        ('\ufeffimage , expression,box\na.jpg,dog,"(1,2,3.5,4)"\n\n', [1, 2, 3.5, 4]),
        ("image,expression,box\na.jpg,dog,1 2 3.5 4\n", [1, 2, 3.5, 4]),
    ],
)
def test_csv_columns(tmp_path, text, expected):
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    assert read_labels(path).boxes().tolist() == [expected]


def test_jsonl_keeps_nested_and_mixed_columns(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text(
        '{"image": "a", "expression": "x", "box": [1, 2.5, 3, 4], "extra": {"k": [1]}, "m": 1}\n\n'
        '{"image": "b", "expression": "y", "box": [1, 2, 3, 4], "m": "text"}\n'
    )
    labels = read_labels(path)
    assert labels.table.column("extra").to_pylist() == [{"k": [1]}, None]
    assert labels.table.column("m").to_pylist() == ["1", '"text"']
    labels.write(tmp_path / "again.jsonl")
    again = read_labels(tmp_path / "again.jsonl")
    assert again.table.column("extra").to_pylist() == [{"k": [1]}, None]


HEAD = "image,expression,x1,y1,x2,y2\n"
BAD_FILES = [
    ("a.xyz", "x", "unknown kind of label file '.xyz'; choose from .parquet, .jsonl"),
    ("a.csv", "", "the file is empty"),
    ("a.csv", "image,caption,x1,y1,x2\na,b,1,2,3\n", "no column 'expression'"),
    ("a.csv", "image,imag,expresion,box\n", "no column 'expression' (did you mean 'expresion'?)"),
    ("a.csv", "image,image,expression,box\n", "column 'image' appears twice"),
    ("a.csv", HEAD + "a,b,1,2,3\n", "row 0 (line 2): 5 cells, but the header has 6"),
    ("a.csv", HEAD + "a,b,1,2,3,4\na,b,1,2,x,4\n", "row 1: column 'x2'"),
    ("a.csv", HEAD + 'a,"b,1,2,3,4\n', "check the quotes"),
    ("a.csv", HEAD.encode() + b"a,\xff,1,2,3,4\n", "not UTF-8"),
    ("a.csv", "image,expression,box\na,b,[1;2]\n", "row 0: box '[1;2]' is not four numbers"),
    ("a.jsonl", '{"image": "a"}\n{"image": \n', "row 1 (line 2): not JSON"),
    ("a.jsonl", "[1, 2]\n", "row 0 (line 1): a list, expected an object"),
    ("a.jsonl", '{"image": 1, "expression": [2], "box": [1, 2, 3, 4]}', "column 'expression'"),
    ("a.parquet", "PAR1 not parquet", "damaged, or not a Parquet file"),
    ("a.parquet", "", "the file is empty"),
    ("a.json", "{}", "neither COCO instances"),
    ("a.json", "{", "not JSON"),
]


@pytest.mark.parametrize(("name", "content", "expected"), BAD_FILES)
def test_bad_files_give_one_line(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read_labels(path)
    message = str(caught.value)
    assert expected in message
    assert name in message
    assert "\n" not in message


def test_truncated_parquet(labels, tmp_path):
    path = tmp_path / "a.parquet"
    labels.write(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"a\.parquet: damaged"):
        read_labels(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_labels(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="a folder; name the label file"):
        read_labels(tmp_path)
    with pytest.raises(InputError, match="no label files"):
        read_labels([])
    with pytest.raises(InputError, match=r"cannot write \.txt; choose from \.parquet"):
        LabelTable.from_columns(image=[], expression=[], box=[]).write(tmp_path / "a.txt")


def test_bad_rows_are_refused_together_or_dropped(tmp_path):
    path = tmp_path / "pseudo.csv"
    rows = ["a,ok,1,2,3,4", "a,dog,412,33,398,90", "a,  ,1,2,3,4", "a,dog,9,9,8,8", "a,d,nan,1,2,3"]
    path.write_text(HEAD + "\n".join([*rows, "a,empty box,5,5,5,5", "a,outside,-5,-5,9999,9"]))
    with pytest.raises(InputError) as caught:
        read_labels(path)
    message = str(caught.value)
    assert "pseudo.csv row 1: box (412, 33, 398, 90) has x2 < x1; expected xyxy pixels." in message
    assert "4 such findings: 2 reversed, 1 empty-expression, 1 value." in message
    assert message.endswith("Fix the rows or read with on_error='drop'.")
    with pytest.warns(UserWarning, match=r"dropped 4 of 7 rows \(2 reversed, "):
        labels = read_labels(path, on_error="drop")
    assert labels.expressions == ["ok", "empty box", "outside"]
    assert sorted(row for found in labels.dropped for row in found.rows) == [1, 2, 3, 4]


def test_single_bad_row_reads_as_in_the_manual(tmp_path):
    path = tmp_path / "pseudo.parquet"
    LabelTable.from_columns(image=["a"], expression=["e"], box=[[412, 33, 398, 90]]).write(path)
    with pytest.raises(InputError) as caught:
        read_labels(path)
    assert str(caught.value) == (
        f"{path} row 0: box (412, 33, 398, 90) has x2 < x1; expected xyxy pixels. "
        "If boxes are written otherwise, say how with box_format='xyxy', box_format='xywh' "
        "or box_format='cxcywh'. "
        "Fix the row or read with on_error='drop'."
    )
    with pytest.raises(InputError, match="choose from 'raise', 'drop'"):
        read_labels(path, on_error="ignore")


@pytest.mark.parametrize("columns", ["box", "x1,y1,x2,y2", "x,y,w,h,weight"])
def test_a_header_alone_is_a_table_without_rows(tmp_path, columns):
    path = tmp_path / "a.csv"
    path.write_text(f"image,expression,{columns}\n")
    labels = read_labels(path)
    assert len(labels) == 0
    assert labels.boxes().shape == (0, 4)
    assert labels.fingerprint() == labels.select([]).fingerprint()


def test_numbers_beyond_64_bits(tmp_path):
    path = tmp_path / "a.jsonl"
    row = '{"image": "a", "expression": "b", "box": [1, 2, 3, 4], %s}'
    path.write_text(row % f'"id": {2**80}')
    assert read_labels(path).table.column("id").to_pylist() == [str(2**80)]
    path.write_text(row % f'"width": {2**80}')
    with pytest.raises(InputError, match=r"a\.jsonl: column 'width'"):
        read_labels(path)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_json_nested_too_deeply_is_not_json(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_text("[" * 200_000)
    with pytest.raises(InputError, match="not JSON"):
        read_labels(path)


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_layout_that_nothing_is_read_in_is_refused(tmp_path, ending):
    path = tmp_path / f"labels.{ending}"
    LabelTable.from_columns(image=["a.jpg"], expression=["dog"], box=[[0, 0, 1, 1]]).write(path)
    with pytest.raises(InputError, match=r"layout='coco': only \.pth files have a layout"):
        read_labels(path, options=ReadOptions(layout="coco"))


def test_rows_are_counted_from_0_and_lines_from_1(tmp_path):
    path = tmp_path / "labels.jsonl"
    good = '{"image": "a.jpg", "expression": "dog", "box": [0, 0, 1, 1]}'
    path.write_text(f"{good}\n\n{{broken\n")
    with pytest.raises(InputError, match=r"row 1 \(line 3\): not JSON"):
        read_labels(path)
    path.write_text(f"{good}\n\n{good.replace('dog', '')}\n")
    with pytest.raises(InputError, match="row 1: the expression is empty"):
        read_labels(path)
    path = tmp_path / "labels.csv"
    path.write_text('image,expression,box\na.jpg,dog,"[0, 0, 1, 1]"\na.jpg,dog\n')
    with pytest.raises(InputError, match=r"row 1 \(line 3\): 2 cells"):
        read_labels(path)
