"""Observation files of every kind, all of the same image."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipvg import read_observations
from clipvg.errors import InputError
from clipvg.pseudo import Detection, Observation

WIDTH, HEIGHT = 200, 100
COCO = {
    "images": [{"id": 7, "file_name": "7.jpg", "width": WIDTH, "height": HEIGHT}],
    "categories": [{"id": 18, "name": "dog"}],
    "annotations": [
        {"image_id": 7, "category_id": 18, "bbox": [10, 20, 30, 40]},
        {"image_id": 7, "category_id": 18, "bbox": [0, 0, 200, 100], "iscrowd": 1},
    ],
}
DOG = (10.0, 20.0, 40.0, 60.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / "7.jpg")
    write(tmp_path / "instances.json", COCO)
    return tmp_path


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(folder: Path, path: Path, *, categories: bool = False) -> Observation:
    names = folder / "instances.json" if categories else None
    (seen,) = read_observations(path, images=folder / "images", categories=names)
    assert (seen.image, seen.width, seen.height) == ("7.jpg", WIDTH, HEIGHT)
    return seen


def found(score: float = 1.0) -> tuple[Detection, ...]:
    return (Detection("dog", DOG, score),)


def test_coco_instances_without_crowds(folder: Path) -> None:
    assert read(folder, folder / "instances.json").detections == found()


def test_coco_results_need_names(folder: Path) -> None:
    path = write(folder / "results.json", [
        {"image_id": 7, "category_id": 18, "bbox": [10, 20, 30, 40], "score": 0.5}])  # fmt: skip
    assert read(folder, path, categories=True).detections == found(0.5)
    with pytest.raises(InputError, match="result 0: image 7 has no name; pass --categories"):
        read_observations(path)


def test_coco_results_of_unknown_images_and_classes(folder: Path) -> None:
    names = folder / "instances.json"
    for entry, fault in (
        ({"image_id": 8, "category_id": 18, "bbox": [1, 2, 3, 4]}, "image 8 is not in .*instances"),
        ({"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]}, "class 1 is not in .*instances"),
        ({"category_id": 18, "bbox": [1, 2, 3, 4]}, "no 'image_id'"),
        ({"image_id": 7, "category_id": 18, "bbox": [1, 2, 3]}, "bbox .* is not"),
        ({"image_id": 7, "category_id": 18, "bbox": [1, 2, 3, 4], "score": "high"}, "score 'high'"),
    ):
        path = write(folder / "results.json", [entry])
        with pytest.raises(InputError, match=rf"results\.json: result 0: {fault}"):
            read_observations(path, categories=names)


def test_coco_captions_and_caption_results(folder: Path) -> None:
    captions = {"images": COCO["images"], "annotations": [{"image_id": 7, "caption": "A dog."}]}
    assert read(folder, write(folder / "captions.json", captions)).captions == ("A dog.",)
    path = write(folder / "results.json", [{"image_id": 7, "caption": "A dog."}])
    assert read(folder, path, categories=True).captions == ("A dog.",)


def test_visual_genome(folder: Path) -> None:
    dog = {"x": 10, "y": 20, "w": 30, "h": 40, "names": ["Dog"]}
    grass = {"x": 0, "y": 50, "w": 200, "h": 50, "name": "grass"}
    objects = write(folder / "objects.json", [{"image_id": 7, "objects": [dog]}])
    assert read(folder, objects).detections == found()
    brown = {**dog, "attributes": ["brown"]}
    attributes = write(folder / "attributes.json", [{"image_id": 7, "attributes": [brown]}])
    assert read(folder, attributes).detections[0].attributes == {"brown": 1.0}
    edges = [{"predicate": "ON", "subject": dog, "object": grass}]
    path = write(folder / "relationships.json", [{"image_id": 7, "relationships": edges}])
    (edge,) = read(folder, path).relations
    assert (edge.subject, edge.predicate, edge.object, edge.subject_box) == (
        "dog", "on", "grass", DOG,
    )  # fmt: skip
    nameless = [{"predicate": "on", "subject": {"x": 1}, "object": grass}]
    write(folder / "relationships.json", [{"image_id": 7, "relationships": nameless}])
    with pytest.raises(InputError, match="entry 0, relationship 0: no 'names' or 'name'"):
        read_observations(path)


VOC = """<annotation><filename>7.jpg</filename><size><width>200</width><height>100</height></size>
<object><name>dog</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>40</xmax><ymax>60</ymax>
</bndbox></object></annotation>"""


def test_pascal_voc(folder: Path) -> None:
    assert read(folder, write(folder / "voc" / "7.xml", VOC).parent).detections == found()
    path = write(folder / "bomb.xml", '<!DOCTYPE x [<!ENTITY a "aa">]>' + VOC)
    with pytest.raises(InputError, match=r"bomb\.xml: has a DTD"):
        read_observations(path)
    with pytest.raises(InputError, match=r"bad\.xml: damaged, or not Pascal VOC"):
        read_observations(write(folder / "bad.xml", "<annotation>"))
    with pytest.raises(InputError, match=r"object 0: box .* is not four numbers"):
        read_observations(write(folder / "half.xml", VOC.replace("<xmax>40</xmax>", "")))


def test_yolo_with_names_beside_it(folder: Path) -> None:
    path = write(folder / "labels" / "7.txt", "0 0.125 0.4 0.15 0.4 0.5\n").parent
    write(path / "classes.txt", "dog\ncat\n")
    (seen,) = read(folder, path).detections
    assert (seen.name, seen.score) == ("dog", 0.5)
    assert seen.box == pytest.approx(DOG)
    write(path / "7.txt", "2 0.1 0.4 0.1 0.4\n")
    with pytest.raises(InputError, match=r"7\.txt: line 1: class 2 is not in .*classes\.txt"):
        read_observations(path, images=folder / "images")
    write(path / "7.txt", "0 0.1 0.4\n")
    with pytest.raises(InputError, match=r"7\.txt: line 1: 3 words; expected class"):
        read_observations(path, images=folder / "images")
    with pytest.raises(InputError, match="pass --images DIR"):
        read_observations(path)


def test_yolo_with_a_data_yaml(folder: Path) -> None:
    path = write(folder / "labels" / "7.txt", "0 0.125 0.4 0.15 0.4\n")
    write(folder / "data.yaml", "names:\n  0: dog\n")
    assert read(folder, path).detections[0].name == "dog"


def test_pseudo_q_pickles_and_npy(folder: Path) -> None:
    plain = {"7.jpg": [["dog", [*DOG, 0.5]]]}
    np.save(folder / "found.npy", np.array(plain, dtype=object), allow_pickle=True)
    assert read(folder, folder / "found.npy").detections == found(0.5)
    scores = [0.0] * 400
    scores[4] = 0.75  # red
    described = {"7.jpg": [["dog", [*DOG, 0.5], np.array(scores, np.float32)]]}
    (folder / "described.pth").write_bytes(pickle.dumps(described))
    (seen,) = read(folder, folder / "described.pth").attribute_detections
    assert seen == Detection("dog", DOG, 0.5, {"red": 0.75})


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 + 1",)


def test_pickles_that_run_code_are_refused(folder: Path) -> None:
    for path, content in (("evil.pth", {"7.jpg": Evil()}), ("list.pth", [1])):
        (folder / path).write_bytes(pickle.dumps(content))
        with pytest.raises(InputError, match=f"{path}: holds"):
            read_observations(folder / path)
    np.save(folder / "numbers.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"numbers\.npy: holds numbers alone"):
        read_observations(folder / "numbers.npy")


def test_supervision(folder: Path) -> None:
    box = {"x_min": 10, "y_min": 20, "x_max": 40, "y_max": 60, "class_id": 18, "confidence": 0.5}
    path = write(folder / "sink.json", [{**box, "class_name": "dog", "image": "7.jpg"}])
    assert read(folder, path).detections == found(0.5)
    write(path, [{**box, "image": "7.jpg"}])
    assert read(folder, path, categories=True).detections == found(0.5)
    write(path, [box])
    with pytest.raises(InputError, match=r"entry 0: no image; write it with sink\.append"):
        read_observations(path)


def test_ultralytics(folder: Path) -> None:
    box = {"x1": 10, "y1": 20, "x2": 40, "y2": 60}
    entry = {"name": "dog", "class": 16, "confidence": 0.5, "box": box}
    path = write(folder / "runs" / "7.json", [entry])
    assert read(folder, path).detections == found(0.5)
    write(path, [])
    assert read(folder, path.parent).detections == ()


def places(value: object, place: tuple = ()) -> Iterator[tuple]:
    yield place
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*place, key))


def put(value: Any, place: tuple, new: object) -> Any:
    if not place:
        return new
    value = copy.deepcopy(value)
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = new
    return value


ENTRY = {"name": "dog", "confidence": 0.5, "box": {"x1": 1, "y1": 2, "x2": 30, "y2": 40}}
OBJECT = {"x": 10, "y": 20, "w": 30, "h": 40, "names": ["Dog"], "attributes": ["brown"]}
SINK = {"x_min": 1, "y_min": 2, "x_max": 30, "y_max": 40, "class_name": "dog", "image": "7.jpg"}
NATIVE = {
    "image": "7.jpg",
    "width": 200,
    "detections": [{"class": "dog", "box": [1, 2, 30, 40], "attributes": {"red": 0.5}}],
    "captions": ["a dog"],
    "relations": [{"subject": "a", "predicate": "b", "object": "c", "subject_box": [1, 2, 3, 4],
                   "object_box": [1, 2, 3, 4], "scores": {"subject": 0.5}}],
    "candidates": [{"source": "v", "expression": "x", "box": [1, 2, 3, 4], "detection": 1}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("instances.json", COCO),
        ("results.json", [{"image_id": 7, "category_id": 18, "bbox": [10, 20, 30, 40]}]),
        ("captions.json", {**COCO, "annotations": [{"image_id": 7, "caption": "a dog"}]}),
        ("objects.json", [{"image_id": 7, "objects": [OBJECT]}]),
        ("edges.json", [{"image_id": 7, "relationships": [
            {"predicate": "on", "subject": OBJECT, "object": OBJECT}]}]),
        ("sink.json", [SINK]),
        ("7.json", [ENTRY]),
        ("native.jsonl", NATIVE),
    ],
)  # fmt: skip
def test_whatever_is_wrong_is_one_line(folder: Path, name: str, content: object) -> None:
    names = write(folder / "names.json", COCO)
    path = folder / "wrong" / name
    faults = []
    for place in places(content):
        for new in (None, -1, "x", [], {}, [1], True, math.inf, 10**30):
            write(path, put(content, place, new))
            try:
                list(read_observations(path, images=folder / "images", categories=names))
            except InputError as error:
                faults.append(str(error))
    assert len(faults) > 10
    for fault in faults:
        assert "\n" not in fault
        assert fault.startswith(str(path))
