"""COCO JSON: no label is lost because of an id, and a caption's head is no expression by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels

Json = dict[str, Any]
IMAGES = [
    {"id": 1, "file_name": "a.jpg", "width": 640, "height": 480},
    {"id": 2, "file_name": "b.jpg", "width": 640, "height": 480},
]
CATEGORIES = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]


def annotation(image: Any = 1, category: Any = 1, **others: Any) -> Json:
    return {"image_id": image, "category_id": category, "bbox": [1, 2, 30, 40], **others}


def read(folder: Path, annotations: list[Json], **others: Any) -> LabelTable:
    path = folder / "instances.json"
    content = {"images": IMAGES, "annotations": annotations, "categories": CATEGORIES, **others}
    path.write_text(json.dumps(content))
    return read_labels(path)


@pytest.mark.parametrize(
    ("ids", "column"),
    [
        ([7, 7], [7, 7]),
        (["x", "x"], ["x", "x"]),
        ([2**80, -(2**70)], [str(2**80), str(-(2**70))]),
        ([1, "two"], ["1", "two"]),
        ([None, 5], ["", "5"]),
        ([1.5, 2], ["1.5", "2"]),
    ],
)
def test_ids_of_annotations_are_names(tmp_path: Path, ids: list, column: list) -> None:
    labels = read(tmp_path, [annotation(id=ids[0]), annotation(2, 2, id=ids[1])])
    assert labels.expressions == ["dog", "cat"]
    assert labels.image_names == ["a.jpg", "b.jpg"]
    found = labels.table["coco.id"].to_pylist()
    assert [each or "" for each in found] == column


@pytest.mark.parametrize("number", ["1", "x", 2**80, 1.0])
def test_ids_of_images_and_categories_are_names(tmp_path: Path, number: Any) -> None:
    images = [{**IMAGES[0], "id": number}, {"file_name": "none.jpg"}]
    categories = [{"id": number, "name": "dog"}]
    other = int(number) if number in ("1", 1.0) else number  # 1, "1" and 1.0 are one name
    labels = read(tmp_path, [annotation(other, other)], images=images, categories=categories)
    assert labels.image_names == ["a.jpg"]
    assert labels.expressions == ["dog"]


def test_an_image_that_is_listed_twice_is_one_and_two_of_one_id_are_refused(tmp_path: Path) -> None:
    assert len(read(tmp_path, [annotation()], images=[IMAGES[0], IMAGES[0]])) == 1
    with pytest.raises(InputError, match=r"two images have the id 1, one with file_name 'a.jpg'"):
        read(tmp_path, [annotation()], images=[IMAGES[0], {**IMAGES[1], "id": 1}])
    with pytest.raises(InputError, match="neither a number nor text"):
        read(tmp_path, [annotation([1])])


def test_repeated_ids_do_not_decide_what_is_left_and_right(tmp_path: Path) -> None:
    boxes = [[0, 0, 10, 10], [500, 0, 10, 10], [250, 0, 10, 10]]
    labels = read(tmp_path, [annotation(id=3, bbox=box) for box in boxes])
    assert labels.expressions == ["left dog", "right dog", "dog"]


def test_crowds_sizes_and_names_of_other_types(tmp_path: Path) -> None:
    images = [
        {"id": 1, "coco_url": "http://images.cocodataset.org/train2017/7.jpg", "width": "640.0"},
        {"id": 2, "file_name": "b.jpg", "width": None, "height": "480"},
    ]
    crowds = [annotation(iscrowd=1), annotation(iscrowd="1"), annotation(iscrowd="0")]
    labels = read(tmp_path, [*crowds, annotation(2)], images=images)
    assert labels.image_names == ["train2017/7.jpg", "b.jpg"]
    assert labels.sizes().tolist() == [[640, -1], [-1, 480]]


@pytest.mark.parametrize("box", [[], None, [1, 2, 3], "1 2", {"x": 1}, ["a", 1, 2, 3], 5])
def test_a_box_that_is_none_is_said_or_left_out(tmp_path: Path, box: Any) -> None:
    annotations = [annotation(2), annotation(bbox=box)]
    with pytest.raises(InputError, match=r"instances.json row 1: box .* four (finite )?numbers"):
        read(tmp_path, annotations)
    with pytest.warns(UserWarning, match="dropped 1 of 2 rows"):
        labels = read_labels(tmp_path / "instances.json", on_error="drop")
    assert labels.image_names == ["b.jpg"]
    assert [found.rows.tolist() for found in labels.dropped] == [[1]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "image,expression,box\na,good,1 2 3 4\nb,bad,[]\n"),
        ("a.csv", "image,expression,x1,y1,x2,y2\na,good,1,2,3,4\nb,bad,1,2,x,4\n"),
        ("a.jsonl", '{"image": "a", "expression": "good", "box": [1, 2, 3, 4]}\n'
                    '{"image": "b", "expression": "bad", "box": []}\n'),
        ("a.json", '[{"image": "a", "expression": "good", "box": [1, 2, 3, 4]},'
                   '{"image": "b", "expression": "bad", "box": [1, 2, 3, 4, 5]}]'),
        ("a.json", '[{"img_id": "a_1", "sents": "good", "bbox": [1, 2, 3, 4]},'
                   '{"img_id": "b_1", "sents": "bad", "bbox": []}]'),
    ],
)  # fmt: skip
def test_every_reader_leaves_such_a_row_out(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=r"row 1: .*Fix the row or read with on_error='drop'"):
        read_labels(tmp_path / name)
    with pytest.warns(UserWarning, match=r"dropped 1 of 2 rows \(1 value\)"):
        assert read_labels(tmp_path / name, on_error="drop").expressions == ["good"]


def caption_entry(number: int, caption: str, **others: Any) -> Json:
    """An image entry as MDETR's scripts write it: one for each caption of an image."""
    return {
        "id": number,
        "file_name": "COCO_train2014_000000000009.jpg",
        "width": 640,
        "height": 480,
        "original_id": 9,
        "caption": caption,
        "dataset_name": "refcoco",
        "tokens_negative": [[0, len(caption)]],
        **others,
    }


def test_one_target_an_entry_is_the_whole_caption(tmp_path: Path) -> None:
    """The RefCOCO files of MDETR: ``tokens_positive`` mark the head alone."""
    images = [caption_entry(0, "the dog on the left"), caption_entry(1, "a cat in a box")]
    marked = [
        annotation(0, 18, id=0, tokens_positive=[[4, 7]], original_id=5, area=1200, iscrowd=0),
        annotation(1, 17, id=1, tokens_positive=[[2, 5]], original_id=6, area=1200, iscrowd=0),
    ]
    labels = read(tmp_path, marked, images=images)
    assert labels.expressions == ["the dog on the left", "a cat in a box"]
    assert labels.image_names == ["COCO_train2014_000000000009.jpg"] * 2
    assert labels.boxes().tolist() == [[1, 2, 31, 42]] * 2
    assert "caption" not in labels.table.column_names
    for missing in ({}, {"tokens_positive": []}, {"tokens_positive": None}):
        labels = read(tmp_path, [annotation(0, **missing)], images=images)
        assert labels.expressions == ["the dog on the left"]


def test_several_targets_with_spans_are_phrases(tmp_path: Path) -> None:
    """The Flickr30k files of MDETR and GLIP, whose sizes are text."""
    caption = "A girl with brown hair smiles at the girl's dog"
    eval_spans = [[[0, 6]], [[12, 22]]]
    images = [
        caption_entry(0, caption, width="500", height="375", tokens_positive_eval=eval_spans),
        caption_entry(1, "Two men", tokens_positive_eval=[[[4, 7]]]),
        caption_entry(2, "dog and dog"),
    ]
    marked = [
        annotation(0, tokens_positive=[[0, 6], [33, 43]]),  # mentioned twice: two expressions
        annotation(0, tokens_positive=[[18, 22], [12, 17]]),  # words of one phrase
        annotation(1, tokens_positive=[[4, 7]]),
        annotation(2, tokens_positive=[0, 3]),  # a pair that is not in a list
        annotation(2, tokens_positive=[[8, 11]]),
    ]
    labels = read(tmp_path, marked, images=images)
    assert labels.expressions == ["A girl", "the girl's", "brown hair", "men", "dog", "dog"]
    assert labels.table["caption"].to_pylist() == [*[caption] * 3, "Two men", *["dog and dog"] * 2]
    assert labels.sizes()[0].tolist() == [500, 375]


def test_several_targets_with_one_span_share_the_caption(tmp_path: Path) -> None:
    images = [caption_entry(0, "all the dogs")]
    marked = [annotation(0, bbox=[i, 0, 5, 5], tokens_positive=[[8, 12]]) for i in range(3)]
    assert read(tmp_path, marked, images=images).expressions == ["all the dogs"] * 3


def test_spans_beyond_the_caption_are_empty_expressions(tmp_path: Path) -> None:
    images = [caption_entry(0, "a dog")]
    marked = [annotation(0, tokens_positive=[[90, 95]]), annotation(0, tokens_positive=[[2, 5]])]
    with pytest.raises(InputError, match="row 0: the expression is empty"):
        read(tmp_path, marked, images=images)


def test_a_caption_of_the_annotation_goes_first(tmp_path: Path) -> None:
    labels = read(tmp_path, [annotation(caption="my dog"), annotation(2)])
    assert labels.expressions == ["my dog", "dog"]


def test_written_as_mdetr_reads_it(tmp_path: Path) -> None:
    labels = LabelTable.from_columns(
        image=["a.jpg", "a.jpg"],
        expression=["red dog", "naïve dog"],
        box=[[0.1, 0.2, 0.4, 30], [1, 2, 3, 4]],
        box_format=["xyxy", "xywh"],
        width=[640, 640],
        height=[480, 480],
        source=["template", "human"],
        **{"reliability.m": [0.5, float("nan")]},
    )
    path = tmp_path / "out.json"
    labels.write(path, format="coco")
    content = json.loads(path.read_text())
    assert [each["caption"] for each in content["images"]] == labels.expressions
    assert [each["id"] for each in content["images"]] == [1, 2]
    assert content["annotations"][1]["bbox"] == [1, 2, 3, 4]
    assert content["annotations"][0]["tokens_positive"] == [[0, 7]]
    again = read_labels(path)
    assert again.fingerprint() == labels.fingerprint()
    assert again.reliability("m")[0] == 0.5
    content["annotations"][0]["bbox"] = [9, 9, 9, 9]  # a box corrected by hand takes precedence
    path.write_text(json.dumps(content))
    assert read_labels(path).boxes()[0].tolist() == [9, 9, 18, 18]


def test_ids_of_annotations_stay_where_each_label_has_its_own(tmp_path: Path) -> None:
    def ids(values: list[int]) -> list[int]:
        labels = LabelTable.from_columns(
            image=["a.jpg"] * 2, expression=["dog", "cat"], box=[[1, 2, 3, 4]] * 2,
            **{"coco.id": values},
        )  # fmt: skip
        labels.write(tmp_path / "out.json", format="coco")
        return read_labels(tmp_path / "out.json")["coco.id"].to_pylist()

    assert ids([77, 7]) == [77, 7]
    with pytest.warns(UserWarning, match=r"no place for coco\.id in coco files"):
        assert ids([7, 7]) == [1, 2]
