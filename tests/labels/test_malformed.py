"""Malformed files of other projects: errors are in clipvg's words and name the place."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipvg.errors import InputError
from clipvg.labels import read_labels

PYTHON = r"object has no attribute|indices must|unhashable|NoneType|subscriptable|iterable|unpack"
SENTENCE = {"sent": "red dog", "raw": "Red dog", "sent_id": 1}
REF = {"ann_id": 1, "ref_id": 2, "split": "val", "sentences": [SENTENCE]}
INSTANCES = {
    "images": [{"id": 7, "file_name": "a.jpg", "width": 9, "height": 9}],
    "annotations": [{"id": 1, "image_id": 7, "bbox": [1, 2, 3, 4]}],
    "categories": [],
}
REFS: list[tuple[Any, str]] = [
    ({"a": 1}, "holds a dict, not REFER's list of referents"),
    (["x"], "referent 0: 'x' where an object with 'ann_id' belongs"),
    ([{**REF, "sentences": ["red dog"]}], "referent 0: 'red dog' where an object with 'raw'"),
    ([{**REF, "sentences": "red dog"}], "referent 0: 'sentences' is 'red dog', where a list"),
    ([{**REF, "sentences": [{"sent_id": 1}]}], "referent 0: no 'raw' in an object that has sent"),
    ([{**REF, "ann_id": 99}], "instances.json beside it has no annotation 99; is it that of ano"),
    ([{**REF, "ann_id": {"a": 1}}], r"neither a number nor text"),
    ([{k: v for k, v in REF.items() if k != "split"}], "referent 0: no 'split'"),
    ([{**REF, "sentences": None}], "no labels in it"),
]


def read(path: Path) -> str:
    """Return the one-line error about a file that cannot be read."""
    with pytest.raises(InputError) as caught:
        read_labels(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert not re.search(PYTHON, message)
    return message


@pytest.mark.parametrize(("refs", "expected"), REFS)
def test_referents(refs: Any, expected: str, tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text(json.dumps(INSTANCES))
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps([REF]))
    assert len(read_labels(tmp_path / "refs(unc).p")) == 1
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(refs))
    assert re.search(expected, read(tmp_path / "refs(unc).p"))


def test_instances_without_the_image(tmp_path: Path) -> None:
    lacking = {**INSTANCES, "images": []}
    (tmp_path / "instances.json").write_text(json.dumps(lacking))
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps([REF]))
    assert "has no image 7" in read(tmp_path / "refs(unc).p")


JXU = {
    "sentences": [SENTENCE], "bbox": [1.0, 2.0, 3.0, 4.0], "image_path": "coco/a.jpg",
    "split": "val", "raw_image_info": '{"width": 9, "height": 9}',
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"sentences": ["red dog"]}, "row 0: 'red dog' where an object with 'raw' belongs"),
        ({"sentences": "red dog"}, "row 0: 'sentences' is 'red dog', where a list belongs"),
        ({"sentences": [{"tokens": ["a"]}]}, "row 0: no 'raw' in an object that has tokens"),
        ({"image_path": 3}, "row 0: no name of its image"),
        ({"bbox": "1 2 3"}, "row 0: box '1 2 3' is not four numbers"),
        ({"sentences": []}, "no labels in it"),
    ],
)
def test_jxu124(changed: dict, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "val.parquet"
    pq.write_table(pa.Table.from_pylist([{**JXU, **changed}]), path)
    assert expected in read(path)


@pytest.mark.parametrize("facts", [None, "{", "[1]", "{}"])
def test_jxu124_without_sizes(facts: str | None, tmp_path: Path) -> None:
    path = tmp_path / "val.parquet"
    pq.write_table(pa.Table.from_pylist([{**JXU, "raw_image_info": facts}]), path)
    assert read_labels(path).sizes().tolist() == [[-1, -1]]


GOOD = {"image_id": 9, "bbox": [1, 2, 3, 4], "caption": "cup", "caption_quality": 1}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"annotations": [GOOD, 3]}, "row 1: '3' where an object with 'bbox' belongs"),
        ({"annotations": [GOOD, {"caption": "cup"}]}, "row 1: no 'bbox' in an object that has"),
        ({"annotations": [{**GOOD, "image_id": [1]}]}, "neither a number nor text"),
        ({"annotations": [{**GOOD, "image_id": "x"}]}, "row 0: image 'x' is not the number of"),
        ({"images": ["a.jpg"]}, "image 0: 'a.jpg' where an object with 'id' belongs"),
    ],
)
def test_reviewed_refcoco(changed: dict, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "refcoco_val_reviewed.json"
    path.write_text(json.dumps({"images": [], "annotations": [GOOD], **changed}))
    assert expected in read(path)


REGION = {"phrase": "a dog", "x": 1, "y": 2, "width": 3, "height": 4}
TALK = [{"from": "human", "value": "x"}, {"from": "gpt", "value": "<ref>dog</ref>[1, 2, 3, 4]"}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"id": 1, "regions": ["a dog"]}], "image 0: 'a dog' where an object with 'phrase'"),
        ([{"id": 1, "regions": [{**REGION, "x": None}]}], "row 0: box"),
        ([{"regions": [REGION]}], "image 0: no 'id'"),
        ([{"img_id": "COCO_1_2", "sents": "a", "bbox": [1, 2, 3, 4]}, {"sents": "b"}], "row 1: no"),
        (
            {"val": [{"bbox": [1, 2, 3, 4], "refs": ["a"], "iid": 1}, "x"]},
            "val[1]: 'x' where an",
        ),
        ({"val": [{"bbox": [1, 2, 3, 4], "refs": 3, "iid": 1}]}, "'refs' is '3', where a list"),
        ([{"conversations": "hello", "image": "a.jpg"}], "'conversations' is 'hello', where a li"),
        ([{"conversations": ["hello"], "image": "a.jpg"}], "where an object with 'value' belongs"),
        ([{"messages": TALK, "image": "a.jpg"}], "row 0: no 'content' in an object that has from"),
        ([{"messages": [], "objects": "x", "image": "a.jpg"}], "where an object with 'bbox'"),
    ],
)
def test_others(content: Any, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "refcoco.json"
    path.write_text(json.dumps(content))
    assert expected in read(path)


def rectangle(**more: Any) -> dict:
    sides = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}
    return {**sides, "original_width": 600, "original_height": 400, **more}


def flat(**more: Any) -> dict:
    """Return a task in Label Studio's JSON-MIN format."""
    return {
        "image": "/data/upload/3/0a1b2c3d-a.jpg", "id": 7, "annotator": 1, "annotation_id": 2,
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
        "lead_time": 3.5, **more,
    }  # fmt: skip


def test_the_flat_form_of_label_studio(tmp_path: Path) -> None:
    path = tmp_path / "project.json"
    tasks = [
        flat(label=[rectangle(rectanglelabels=["dog"]), rectangle(rectanglelabels=["cat"], x=50)]),
        flat(annotation_id=3),
    ]
    path.write_text(json.dumps(tasks))
    labels = read_labels(path)
    assert (labels.image_names, labels.expressions) == (["a.jpg"] * 2, ["dog", "cat"])
    assert labels.boxes().tolist() == [[60, 80, 240, 240], [300, 80, 480, 240]]
    assert labels.sources() == ["human"] * 2
    for text in ("the red dog", ["the red dog", "a cat"]):
        tasks[0]["transcription"] = text
        path.write_text(json.dumps(tasks))
        assert "belongs; export the project as JSON" in read(path)
        assert "the text under 'transcription'" in read(path)
