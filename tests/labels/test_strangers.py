"""Label files that nobody should have written: each is one line about the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clipvg.errors import InputError
from clipvg.labels import read_labels

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
    import json

    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps({"image": name, "expression": "e", "box": [1, 2, 3, 4]}))
    with pytest.raises(InputError, match="leads out of the folder of images"):
        read_labels(path, images=tmp_path)
    assert len(read_labels(path, images=tmp_path, allow_outside_root=True)) == 1
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


def test_sentences_of_flickr30k_take_linear_time(tmp_path: Path) -> None:
    for folder in ("Sentences", "Annotations"):
        (tmp_path / folder).mkdir()
    (tmp_path / "Sentences" / "1.txt").write_text("[/EN#1/x[/EN#1 y" * 200_000)
    (tmp_path / "Annotations" / "1.xml").write_text("<annotation/>")
    with pytest.raises(InputError, match="no phrase with a box"):
        read_labels(tmp_path)
    (tmp_path / "ids.txt").write_text("../1")
    with pytest.raises(InputError, match="is no image id"):
        read_labels(tmp_path / "ids.txt")
