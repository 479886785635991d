"""Text as other programs write it: encodings, delimiters, gzip, a list in place of lines."""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path

import pytest

from clipvg.errors import InputError
from clipvg.labels import LabelTable, ReadOptions, read_labels

ROWS = [
    {"image": "a.jpg", "expression": "naïve dog", "box": [1, 2, 3, 4]},
    {"image": "b.jpg", "expression": "“cat”", "box": [5, 6, 7, 8.5]},
]
TEXTS = {
    "csv": 'image,expression,box\na.jpg,naïve dog,"[1, 2, 3, 4]"\nb.jpg,“cat”,"[5, 6, 7, 8.5]"\n',
    "tsv": "image\texpression\tbox\na.jpg\tnaïve dog\t[1, 2, 3, 4]\nb.jpg\t“cat”\t5 6 7 8.5\n",
    "jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS),
    "json": json.dumps(ROWS, ensure_ascii=False),
}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


def check(path: Path) -> None:
    labels = read_labels(path)
    assert labels.expressions == ["naïve dog", "“cat”"]
    assert labels.boxes().tolist() == [[1, 2, 3, 4], [5, 6, 7, 8.5]]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", TEXTS)
def test_every_unicode(tmp_path: Path, kind: str, encoding: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(TEXTS[kind].encode(encoding))
    check(path)


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_every_end_of_line(tmp_path: Path, kind: str, newline: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(codecs.BOM_UTF8 + TEXTS[kind].replace("\n", newline).encode())
    check(path)


@pytest.mark.parametrize("kind", TEXTS)
def test_packed_with_gzip(tmp_path: Path, kind: str) -> None:
    for name in (f"a.{kind}.gz", f"named wrongly.{kind}"):
        (tmp_path / name).write_bytes(gzip.compress(TEXTS[kind].encode()))
        check(tmp_path / name)
    (tmp_path / f"not packed.{kind}.gz").write_text(TEXTS[kind])
    check(tmp_path / f"not packed.{kind}.gz")
    (tmp_path / f"cut.{kind}.gz").write_bytes(gzip.compress(TEXTS[kind].encode())[:-20])
    with pytest.raises(InputError, match=rf"cut\.{kind}\.gz: damaged"):
        read_labels(tmp_path / f"cut.{kind}.gz")


@pytest.mark.parametrize("kind", TEXTS)
def test_written_packed(tmp_path: Path, kind: str) -> None:
    labels = LabelTable.from_columns(
        image=["a.jpg", "b.jpg"],
        expression=[str(row["expression"]) for row in ROWS],
        box=[row["box"] for row in ROWS],
    )
    path = tmp_path / f"a.{kind}.gz"
    labels.write(path)
    first = path.read_bytes()
    assert gzip.decompress(first)
    check(path)
    labels.write(path)
    assert path.read_bytes() == first  # no timestamp and no file name in it


def test_a_small_packed_file_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipvg.runtime.gate._SPARE_BYTES", 1000)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"image,expression,box\n" * 10**5))
    with pytest.raises(InputError, match="more data than its size explains"):
        read_labels(tmp_path / "a.csv.gz")


@pytest.mark.parametrize("name", ["a.parquet.gz", "unc_a.pth.gz", "refs(unc).p.gz"])
def test_what_is_no_text_is_not_packed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"x"))
    with pytest.raises(InputError, match="gunzip"):
        read_labels(tmp_path / name)


@pytest.mark.parametrize("name", ["a.zip", "a.csv.bz2", "a.jsonl.zst"])
def test_archives_are_to_be_unpacked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match="unpack it first"):
        read_labels(tmp_path / name)


@pytest.mark.parametrize("kind", TEXTS)
def test_what_is_no_unicode_says_how_to_convert_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(TEXTS[kind].replace("“", "'").replace("”", "'").encode("latin-1"))
    with pytest.raises(InputError, match=r"not UTF-8 \(byte 0xef\); .*iconv -f latin1 -t utf-8"):
        read_labels(path)


@pytest.mark.parametrize(
    "text",
    [
        "image;expression;x1;y1;x2;y2\na.jpg;a, b;1;2;3,5;4\n",
        "image\texpression\tx1\ty1\tx2\ty2\na.jpg\ta, b\t1\t2\t3.5\t4\n",
        "image|expression|x1|y1|x2|y2\na.jpg|a, b|1|2|3.5|4\n",
        'sep=;\n"image";"expression";"x1";"y1";"x2";"y2"\na.jpg;a, b;1;2;3,5;4\n',
        'image;expression;box\na.jpg;a, b;"[1, 2, 3.5, 4]"\n',
    ],
)
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_other_delimiters(tmp_path: Path, text: str, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_text(text)
    labels = read_labels(path)
    assert labels.expressions == ["a, b"]
    assert labels.boxes().tolist() == [[1, 2, 3.5, 4]]


def test_a_comma_too_many_names_the_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("image,expression,box\na.jpg,a, b,1 2 3 4\n")
    with pytest.raises(
        InputError, match=r"row 0 \(line 2\): 4 cells, but the header has 3; quote cells that"
    ):
        read_labels(path)


def test_lines_in_json_and_a_list_in_jsonl(tmp_path: Path) -> None:
    for name, text in (("a.json", TEXTS["jsonl"]), ("a.jsonl", TEXTS["json"])):
        (tmp_path / name).write_text(text)
        check(tmp_path / name)
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS, indent=2))
    check(tmp_path / "a.jsonl")
    (tmp_path / "a.ndjson").write_text(TEXTS["jsonl"])
    check(tmp_path / "a.ndjson")


def test_whole_numbers_as_pandas_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("image,expression,box,width,height\na.jpg,dog,1 2 3 4,640.0,480.\n"
                    "b.jpg,cat,1 2 3 4,,\n")  # fmt: skip
    labels = read_labels(path)
    assert labels["width"].to_pylist() == [640, None]
    assert labels["height"].to_pylist() == [480, None]
    path.write_text("image,expression,box,width\na.jpg,dog,1 2 3 4,640.0\nb.jpg,cat,1 2 3 4,64.5\n")
    with pytest.raises(InputError, match="row 1: column 'width'"):
        read_labels(path)


def test_a_column_is_one_thing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("file,text,box\na.jpg,dog,1 2 3 4\n")
    with pytest.raises(InputError, match="one column cannot be two: file, text, text"):
        read_labels(
            path,
            options=ReadOptions(columns={"image": "file", "expression": "text", "source": "text"}),
        )
