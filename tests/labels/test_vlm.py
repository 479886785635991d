"""Instruction data of vision-language models, as their projects write it."""

import json

import pytest

from clipvg.errors import InputError
from clipvg.labels import ReadOptions, read_labels


def write(path, *items):
    lines = [json.dumps(item) for item in items]
    path.write_text("\n".join(lines) if path.suffix == ".jsonl" else f"[{','.join(lines)}]")
    return path


def talk(question, answer, **more):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": 1, "image": "a.jpg", "conversations": turns, "width": 200, "height": 100, **more}


def messages(question, answer, **more):
    turns = [{"role": "system", "content": "You help."}, {"role": "user", "content": question},
             {"role": "assistant", "content": answer}]  # fmt: skip
    return {"messages": turns, "images": ["a.jpg"], "width": 200, "height": 100, **more}


ASK = "<image>\nPlease provide the bounding box coordinate of the region this sentence describes: "
ITEMS = {
    "InternVL": talk(
        f"{ASK}<ref>the dog</ref>", "<ref>the dog</ref><box>[[100, 200, 500, 800]]</box>"
    ),
    "LLaVA": talk(f"{ASK}the dog", "[100, 200, 500, 800]"),
    "Qwen-VL": talk("Find <ref>the dog</ref>.", "<box>(100,200),(500,800)</box>"),
    "Qwen2-VL": messages(
        "Find <|object_ref_start|>the dog<|object_ref_end|>",
        "<|box_start|>(100,200),(500,800)<|box_end|>",
    ),
    "Qwen2.5-VL": messages(
        "Outline the dog in JSON.",
        '```json\n[{"bbox_2d": [100, 200, 500, 800], "label": "the dog"}]\n```',
    ),
    "ms-swift": messages(
        "Find <ref-object>", "<bbox>", objects={"ref": ["the dog"], "bbox": [[100, 200, 500, 800]]}
    ),
    "records": {"image": "a.jpg", "sent": "the dog", "bbox": [100, 200, 500, 800], "width": 200,
                "height": 100},
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
@pytest.mark.parametrize("item", ITEMS.values(), ids=list(ITEMS))
def test_a_box_in_the_unit_that_is_said(item, suffix, tmp_path):
    path = write(tmp_path / f"train.{suffix}", item)
    labels = read_labels(path, options=ReadOptions(box_unit="thousand"))
    assert (labels.image_names, labels.expressions) == (["a.jpg"], ["the dog"])
    assert labels.boxes().tolist() == [[20, 20, 100, 80]]
    assert read_labels(path, options=ReadOptions(box_unit="pixel")).boxes().tolist() == [
        [100, 200, 500, 800]
    ]
    with pytest.raises(InputError, match=r"row 0: does not say in which unit.*box_unit='pixel'"):
        read_labels(path)


def test_ms_swift_says_its_unit(tmp_path):
    objects = {"ref": ["dog", "cat"], "bbox": [[0.5, 0, 1, 1], [0, 0, 0.5, 0.5]],
               "bbox_type": "norm1"}  # fmt: skip
    labels = read_labels(write(tmp_path / "a.jsonl", messages("Find", "<bbox>", objects=objects)))
    assert labels.expressions == ["dog", "cat"]
    assert labels.boxes().tolist() == [[100, 0, 200, 100], [0, 0, 100, 50]]


def test_what_has_no_one_box_is_left_out_and_counted(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        talk("Describe the image.", "A dog."),
        talk("Find <ref>dogs</ref>", "<box>[[1, 2, 3, 4], [5, 6, 7, 8]]</box>"),
        talk("Find both", "<ref>cat</ref><box>[[1, 2, 3, 4]]</box> and "
             "<ref>dog</ref><box>[[5, 6, 7, 8]]</box>"),
        messages("In JSON.", '[{"bbox_2d": [1, 1, 2, 2], "label": "cup"}, {"bbox_2d": '
                 '[2, 2, 3, 3], "label": "pen"}]'),
        talk("Find <ref>x</ref>", "[1, 2, 3, 4]", image=["a.jpg", "b.jpg"]),
    )  # fmt: skip
    expected = "left out 1 with several targets and 1 with several images"
    with pytest.warns(UserWarning, match=expected):
        labels = read_labels(path, options=ReadOptions(box_unit="pixel"))
    assert labels.expressions == ["cat", "dog", "cup", "pen"]
    assert labels.boxes().tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [1, 1, 2, 2], [2, 2, 3, 3]]


def test_a_box_without_an_expression_is_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", talk("Where is the dog?", "[1, 2, 3, 4]"))
    with pytest.raises(InputError, match=r"row 0: nothing says what box .*<ref>EXPRESSION</ref>"):
        read_labels(path, options=ReadOptions(box_unit="pixel"))
    path = write(tmp_path / "b.jsonl", {"conversations": [{"from": "human"}], "image": "a.jpg"})
    with pytest.raises(InputError, match="row 0: no 'value' in an object that has from"):
        read_labels(path, options=ReadOptions(box_unit="pixel"))


@pytest.mark.parametrize(
    "answer", ["[.1, 1e-3, 5E-1, 1.]", "<box>.1,1e-3,5e-1,1.</box>", "[0.1, 0.001, 0.5, 1]"]
)
def test_numbers_as_programs_write_them(answer, tmp_path):
    path = write(tmp_path / "a.jsonl", talk("Find <ref>the dog</ref>.", answer))
    assert read_labels(path, options=ReadOptions(box_unit="unit")).boxes().tolist() == [
        pytest.approx([20, 0.1, 100, 100])
    ]


@pytest.mark.parametrize("question", ["Find all.", f"{ASK}things"])
def test_each_object_of_json_has_its_own_label(question, tmp_path):
    items = [{"bbox_2d": [1, 2, 30, 40], "label": 'a "big" dog'},
             {"label": "cat", "bbox_2d": [5, 6, 70, 80]}]  # fmt: skip
    path = write(tmp_path / "a.jsonl", talk(question, json.dumps(items)))
    labels = read_labels(path, options=ReadOptions(box_unit="pixel"))
    assert labels.expressions == ['a "big" dog', "cat"]
    assert labels.boxes().tolist() == [[1, 2, 30, 40], [5, 6, 70, 80]]
    path = write(tmp_path / "a.jsonl", talk(f"{ASK}the big dog", json.dumps(items[:1])))
    assert read_labels(path, options=ReadOptions(box_unit="pixel")).expressions == ["the big dog"]
