"""Hostile and broken label files: each gives one line that names the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipvg.data.preset import get_preset
from clipvg.errors import InputError
from clipvg.labels import LabelTable, ReadOptions, check_labels, read_labels
from clipvg.labels.check.expressions import READ
from clipvg.model.tokenizer import Tokenizer
from clipvg.pseudo import read_observations

ROW = '{"image": "a.jpg", "expression": "e", "box": [1, 2, 3, 4]%s}'
FILES = {
    "digits.jsonl": ROW % f', "n": {"9" * 5000}',
    "half a character.jsonl": ROW.replace("a.jpg", r"\ud800") % "",
    "a column of half a character.jsonl": ROW % r', "\ud800": 1',
    "deep.jsonl": ROW % f', "n": {"[" * 100_000}',
    "deep.json": "[" * 100_000,
    "wide.jsonl": "\n".join(ROW % f', "k{i}": 1' for i in range(2000)),
    "wide.csv": ",".join(f"c{i}" for i in range(100_000)),
    "64 bits.jsonl": ROW % f', "width": {2**70}',
    "mixed.jsonl": ROW % "" + "\n" + ROW.replace('"a.jpg"', "3") % "",
    "far.jsonl": ROW.replace("4]", "1e39]") % "",
    "heavy.jsonl": ROW % ', "weight": 3e38',
    "pair.json": '{"images": [{"id": [1], "file_name": 3}], "annotations": [{"id": {}}]}',
    "records.json": '[{"img_id": 1, "sents": [1], "bbox": 3}]',
    "latin.csv": "image,expression,box\né,a,1".encode("latin-1"),
    "noise.parquet": b"PAR1" + bytes(100) + b"PAR1",
    "unc_PK.pth": b"PK",
}


@pytest.mark.parametrize("name", FILES)
def test_one_line_names_the_file(name: str, tmp_path: Path) -> None:
    content = FILES[name]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read_labels(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert "run code" not in str(caught.value)


@pytest.mark.parametrize("name", ["../a.jpg", "b/../../a.jpg", "/etc/a.jpg", "C:\\a.jpg", "a\0b"])
def test_names_of_images_stay_below_their_folder(name: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps({"image": name, "expression": "e", "box": [1, 2, 3, 4]}))
    with pytest.raises(InputError, match="leads out of the folder of images"):
        read_labels(path, images=tmp_path)
    assert (
        len(read_labels(path, images=tmp_path, options=ReadOptions(allow_outside_root=True))) == 1
    )
    assert len(read_labels(path)) == 1


def test_a_full_name_below_the_folder_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"image,expression,x1,y1,x2,y2\n{tmp_path}/a.jpg,e,1,2,3,4\n")
    assert len(read_labels(path, images=tmp_path)) == 1
    with pytest.raises(InputError, match="leads out of the folder of images"):
        read_labels(path, images=tmp_path / "a")


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    for name in ("a.csv", "a.jsonl", "a.parquet", "unc_a.pth", "a.json"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(InputError, match="a pipe or device"):
            read_labels(tmp_path / name)


LONG = "x" * 20_000
LABEL = {"image": ["a.jpg"], "expression": ["e"], "box": [[1.0, 2.0, 3.0, 4.0]], "width": [9],
         "height": [9]}  # fmt: skip
SMALL = {
    "one number": {"n": pa.array([7] * 10**6)},
    "nothing": {"n": pa.nulls(10**6, pa.int64())},
    "one text": {"image": [LONG] * 2000},
    "one text in lists": {"image": [[], *[[LONG]] * 2000]},
    "one text in structs": {"image": [[{"class": LONG, "box": None}]] * 2000},
}


@pytest.mark.parametrize("name", SMALL)
def test_a_small_parquet_file_stays_small(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(SMALL[name]), path, compression="zstd")
    monkeypatch.setattr("clipvg.runtime.parquet._SPARE_BYTES", 10_000)
    for read in (read_labels, read_observations):
        with pytest.raises(InputError, match=rf"^{path}: holds more data than its size explains"):
            read(path)


DAMAGED = """
import sys
from contextlib import suppress
from pathlib import Path
from clipvg.runtime.parquet import read_parquet

path = Path(sys.argv[1])
whole = path.read_bytes()
for at in range(4, len(whole) - 8):
    path.write_bytes(whole[:at] + b"[" + whole[at + 1 :])
    with suppress(Exception):
        read_parquet(path)
"""


def test_a_damaged_parquet_file_does_not_end_the_interpreter(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [[{"b": "x"}]]}), path, store_schema=False)
    done = subprocess.run([sys.executable, "-c", DAMAGED, str(path)], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_texts_of_their_own_are_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 20_000
    rows = {
        "image": [f"{number // 9}.jpg" for number in range(count)],
        "expression": [f"the dog of number {number}" for number in range(count)],
        "box": [[float(number), 1.0, number + 2.5, 9.0] for number in range(count)],
        "source": ["human"] * count,
        "note": [LONG, *[None] * (count - 1)],
    }
    pq.write_table(pa.table(rows), tmp_path / "a.parquet", row_group_size=5000)
    monkeypatch.setattr("clipvg.runtime.parquet._SPARE_BYTES", 10_000)
    assert len(read_labels(tmp_path / "a.parquet")) == count


COLUMNS = {
    "a date of no calendar": pa.array([2**62], pa.timestamp("us")),
    "a time of nowhere": pa.array([0], pa.timestamp("s", "Nowhere/City")),
    "an age": pa.array([2**62], pa.duration("s")),
    "bytes": pa.array([b"\xff"]),
    "a map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "no number": pa.array([float("nan")]),
    "pth.segment": pa.array(["{"]),
    "pth.extra": pa.array([3]),
    "coco.id": pa.array([[[]]]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", COLUMNS)
def test_columns_of_others_are_written_or_refused(name: str, tmp_path: Path) -> None:
    table = pa.table({**LABEL, name: COLUMNS[name]})
    pq.write_table(table, tmp_path / "a.parquet")
    labels = read_labels(tmp_path / "a.parquet")
    forms = [("csv", None), ("json", None), ("jsonl", "odvg"), ("json", "coco"), ("pth", "unc")]
    forms += [("json.gz", "label-studio"), ("parquet", None)]
    for ending, form in forms:
        layout = {"layout": form} if ending == "pth" else {"format": form}
        with suppress(InputError):  # any other error fails
            labels.write(tmp_path / f"b.{ending}", **layout)


@pytest.mark.parametrize("name", ["image", "expression", "note"])
def test_text_that_is_no_utf_8(name: str, tmp_path: Path) -> None:
    table = pa.table({**LABEL, name: pa.array([b"\xff\xfe"]).view(pa.string())})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    with pytest.raises(InputError, match=rf"^{path}: damaged.*UTF"):
        read_labels(path)


def test_a_table_of_holes(tmp_path: Path) -> None:
    rows = (ROW % f', "k{number % 900}": 1' for number in range(20_000))
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    with pytest.raises(InputError, match="20,000 objects with 903 different keys, most of which"):
        read_labels(tmp_path / "a.jsonl")


def test_expressions_of_one_image_take_linear_time(tmp_path: Path) -> None:
    entry = {"image_id": 1, "bbox": [9, 9, 3, 4], "tokens_positive": [[0, 1]]}
    image = {"id": 1, "file_name": "a.jpg", "caption": "dog"}
    content = {"images": [image], "annotations": [entry] * 30_000}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert len(read_labels(tmp_path / "a.json")) == 30_000


@pytest.mark.parametrize(
    "answer", ["[" + "1" * 200_000, '{"label": "a", "bbox": [1, 2, 3, 4]}' * 30_000]
)
def test_answers_take_linear_time(answer: str, tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "Find <ref>it</ref>"}, {"from": "gpt", "value": answer}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"image": "a.jpg", "conversations": talk}))
    with (
        pytest.warns(UserWarning, match="left out") if "label" in answer else nullcontext(),
        pytest.raises(InputError, match="no labels in it"),
    ):
        read_labels(tmp_path / "a.jsonl", options=ReadOptions(box_unit="pixel"))


def test_a_word_as_long_as_a_book_is_cut_before_it_is_read(rng: np.random.Generator) -> None:
    letters = rng.integers(ord("a"), ord("z") + 1, 10**6, dtype=np.uint8).tobytes().decode()
    labels = LabelTable.from_columns(image=["a"], expression=[letters], box=[[1, 2, 3, 4]])
    assert check_labels(labels, open_images=False).findings[0].kind == "too-long"
    with pytest.warns(UserWarning, match="more than 77 tokens"):
        ids, _ = Tokenizer(get_preset("default"))([letters, letters[:READ]])
    assert ids[0].tolist() == ids[1].tolist()


def test_sentences_of_flickr30k_take_linear_time(tmp_path: Path) -> None:
    for folder in ("Sentences", "Annotations"):
        (tmp_path / folder).mkdir()
    (tmp_path / "Sentences" / "1.txt").write_text("[/EN#1/x[/EN#1 y" * 200_000)
    (tmp_path / "Annotations" / "1.xml").write_text("<annotation/>")
    with pytest.raises(InputError, match="no phrase with a box"):
        read_labels(tmp_path)
    (tmp_path / "ids.txt").write_text("../1")
    with pytest.raises(InputError, match="is not an image id"):
        read_labels(tmp_path / "ids.txt")
