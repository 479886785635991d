"""The table of observations and its files."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from clipvg import read_observations
from clipvg.errors import InputError
from clipvg.pseudo import Candidate, Detection, Observation, ObservationTable, Relation

FULL = Observation(
    "b/full.jpg",
    640,
    480,
    (Detection("dog", (1.5, 2, 300, 400), 0.9, {"brown": 0.8}), Detection("cat", (0, 0, 9, 9))),
    (Detection("dog", (1, 2, 299, 400), 0.4, {"white": 0.2, "old": 0.7}),),
    ("A dog.", "Zwei Hunde ä\u2028\x85."),
    (Relation("dog", "on", "bed", (1, 2, 3, 4), (5, 6, 7, 8), (0.5, 0.25, 1.0)),),
    {"vqa": (Candidate("the one that barks", (1, 2, 3, 4), "answer", 0),)},
    {"questions": [{"q": "what?"}]},
)
EMPTY = Observation("empty.jpg", 10, 20)


def test_a_table_gives_back_what_went_in() -> None:
    seen = ObservationTable.from_observations([FULL, EMPTY, FULL])
    assert list(seen) == [FULL, EMPTY, FULL]
    assert list(seen.slice(1, 2)) == [EMPTY, FULL]
    assert len(seen) == 3
    assert seen.given_sources() == {"vqa"}
    assert ObservationTable.from_observations([EMPTY]).kinds() == set()
    assert "detections" in seen.kinds()


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_files_give_back_what_was_written(tmp_path: Path, ending: str) -> None:
    seen = ObservationTable.from_observations([FULL, EMPTY])
    seen.write(tmp_path / f"seen.{ending}")
    again = read_observations(tmp_path / f"seen.{ending}")
    assert list(again) == [FULL, EMPTY]
    assert again.fingerprint() == seen.fingerprint()
    assert ObservationTable.from_observations([EMPTY]).fingerprint() != seen.fingerprint()


def test_many_rows_are_read_in_batches() -> None:
    rows = [Observation(f"{i}.jpg", 9, 9, (Detection("x", (0, 0, i + 1, 1)),)) for i in range(2500)]
    assert list(ObservationTable.from_observations(rows)) == rows


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="need a column 'image'"):
        ObservationTable(pa.table({"expression": ["dog"]}))
    with pytest.raises(InputError, match="observations of another kind"):
        ObservationTable(pa.table({"image": ["a"], "detections": ["dog"]}))
    ours = ObservationTable.from_observations([EMPTY]).table.schema
    with pytest.raises(InputError, match="'image' has rows without a name"):
        ObservationTable(pa.Table.from_pylist([{"image": None}], ours))
    nameless = [[{"class": None, "box": [1.0, 2.0, 3.0, 4.0], "score": 1.0, "attributes": []}]]
    with pytest.raises(InputError, match="'detections' has entries without a value"):
        ObservationTable(pa.table({"image": ["a"], "detections": nameless}))
    with pytest.raises(InputError, match=r"written as \.jsonl or \.parquet"):
        ObservationTable.from_observations([EMPTY]).write(tmp_path / "a.csv")


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


def seen_in(box: list[float], **more: object) -> dict[str, object]:
    return {"image": "a.jpg", "width": 100, "height": 50, "detections": [
        {"class": "dog", "box": box, **more}]}  # fmt: skip


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ({"width": 3}, r"line 1: no 'image'"),
        (["a.jpg"], "line 1: .* is not an object"),
        (seen_in([1, 2, 3]), r"line 1: detections\[0\]: box .* is not four numbers"),
        (seen_in([1, 2, 3, float("inf")]), r"line 1: detections\[0\]: box .* is not finite"),
        (seen_in([1, 2, 3, 4], score=2), r"detections\[0\]: score '2' is not a number from 0 to 1"),
        ({"image": "a.jpg", "detections": [{"box": [1, 2, 3, 4]}]}, r"\[0\]: no 'class'"),
        ({"image": "a.jpg", "captions": "a dog"}, "'captions' is not a list"),
        ({"image": "a.jpg", "width": 2.5}, "width 2.5 is not a whole number"),
        (seen_in([30, 10, 20, 40]), r"detections\[0\]: box \[30, 10, 20, 40\] is reversed"),
        (seen_in([30, 10, 30, 40]), "is empty; leave it out"),
        (seen_in([120, 10, 130, 40]), "is outside the image of 100 × 50"),
        ({"image": "a.jpg"}, "the size of a.jpg is not known; pass --images DIR"),
    ],
)  # fmt: skip
def test_wrong_lines_are_named(tmp_path: Path, line: object, fault: str) -> None:
    path = write(tmp_path / "seen.jsonl", line)
    with pytest.raises(InputError, match=rf"seen\.jsonl: .*{fault}"):
        read_observations(path)


def test_boxes_that_are_none_are_dropped_on_request_and_input_as_published(tmp_path: Path) -> None:
    good, reversed_one = seen_in([1, 2, 30, 40]), seen_in([30, 10, 20, 40])
    path = write(tmp_path / "seen.jsonl", good, reversed_one)
    seen = read_observations(path, on_error="drop")
    assert [len(one.detections) for one in seen] == [1]
    assert seen.dropped == (
        f"{path}: line 2: detections[0]: box [30, 10, 20, 40] is reversed; "
        "write [x1, y1, x2, y2] with x1 < x2 and y1 < y2",
    )
    published = read_observations(path, preset="published")
    assert [len(one.detections) for one in published] == [2]


def test_a_class_without_a_word_is_refused_or_dropped(tmp_path: Path) -> None:
    named = seen_in([1, 2, 30, 40])
    named["detections"].append({"class": "_", "box": [1, 2, 30, 40], "score": 0.9})
    path = write(tmp_path / "seen.jsonl", named)
    with pytest.raises(InputError, match=r"line 1: detections\[1\]: class '_' is no word"):
        read_observations(path)
    (seen,) = read_observations(path, on_error="drop")
    assert len(seen.detections) == 1


def test_candidates_keep_their_detection_when_one_before_it_is_dropped(tmp_path: Path) -> None:
    both = seen_in([30, 10, 20, 40])
    both["detections"].append({"class": "cat", "box": [1, 2, 30, 40], "score": 0.9})
    made = {"source": "region", "box": [1, 2, 30, 40]}
    both["candidates"] = [
        {**made, "expression": "grey cat", "detection": 1},
        {**made, "expression": "a dog", "detection": 0},
        {**made, "expression": "a thing"},
    ]
    path = write(tmp_path / "seen.jsonl", both)
    (seen,) = read_observations(path, on_error="drop")
    assert [one.name for one in seen.detections] == ["cat"]
    assert [one.detection for one in seen.candidates["region"]] == [0, None, None]


def test_an_image_of_two_sizes_is_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "a.jsonl", seen_in([1, 2, 30, 40]))
    other = write(tmp_path / "b.jsonl", {"image": "a.jpg", "width": 200, "height": 100})
    with pytest.raises(InputError, match=r"a\.jpg' is 100 × 50 in .*a.jsonl and 200 × 100 in .*b"):
        read_observations([one, other])
    alone = write(tmp_path / "c.jsonl", {**seen_in([1, 2, 30, 40]), "image": "c.jpg"})
    seen = read_observations([one, other, alone], on_error="drop")
    assert [each.image for each in seen] == ["c.jpg"]
    assert len(seen.dropped) == 1


def test_files_about_the_same_image_are_joined(tmp_path: Path) -> None:
    one = write(tmp_path / "a.jsonl", seen_in([1, 2, 30, 40]))
    other = write(tmp_path / "b.jsonl", {"image": "a.jpg", "captions": ["A dog."], "note": 1})
    (seen,) = read_observations([one, other])
    assert (len(seen.detections), seen.captions, seen.width) == (1, ("A dog.",), 100)
    assert seen.extra == {"note": 1}


def test_missing_files_folders_and_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl: no such file"):
        read_observations(tmp_path / "none.jsonl")
    path = write(tmp_path / "seen.jsonl", seen_in([1, 2, 30, 40]))
    with pytest.raises(InputError, match=r"--images .*: no such folder"):
        read_observations(path, images=tmp_path / "none")
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match=r"line 1: no image 'a\.jpg' below .*--on_error drop"):
        read_observations(path, images=tmp_path / "images")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no files of observations in this folder"):
        read_observations(tmp_path / "empty")
    (tmp_path / "seen.json").write_text('{"what": 1}')
    with pytest.raises(InputError, match="no observations of a known kind"):
        read_observations(tmp_path / "seen.json")
