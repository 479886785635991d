"""`clipvg labels check`: text, JSON and exit codes; its findings are tested in tests/labels."""

from __future__ import annotations

import json

import pytest

ROW = {"image": "0.png", "expression": "red thing", "box": [2, 2, 40, 40]}


def write(path, *rows):
    path.write_text("".join(json.dumps(ROW | row) + "\n" for row in rows))
    return path


def test_a_clean_file(clipvg, labels, pictures):
    outcome = clipvg("labels", "check", labels, "--images", pictures)
    assert outcome.code == 0
    assert outcome.out.startswith("16 labels of 8 images, 2.0 on each, at most ")
    assert "error" not in outcome.out


FORGED = "\x1b[31mval\nerror forged: a line of its own\u202e"


@pytest.mark.parametrize("column", ["split", "source", "image", "expression"])
def test_text_of_a_file_moves_no_cursor_and_begins_no_line(clipvg, tmp_path, column):
    path = write(tmp_path / "l.jsonl", {column: FORGED}, {column: "b"}, {column: "c", "box": [9]})
    for words in ("check", path), ("convert", path, tmp_path / "out.jsonl", "--on_error", "drop"):
        outcome = clipvg("labels", *words)
        said = outcome.out + outcome.err
        assert not {"\x1b", "\u202e"} & {*said}
        assert not any(line.startswith("error forged") for line in said.splitlines())


def test_errors_end_with_two_and_are_results(clipvg, tmp_path):
    path = write(tmp_path / "l.jsonl", {}, {"box": [40, 2, 2, 40]}, {"expression": " "})
    outcome = clipvg("labels", "check", path)
    assert outcome.code == 2
    assert outcome.err == ""
    assert "error reversed: boxes that end before they begin: 1; row 1: box (40, 2, 2, 40)" in (
        outcome.out
    )
    assert "--box_format xyxy" in outcome.out
    assert outcome.out.endswith("2 errors, 1 note\n")


def test_json(clipvg, tmp_path):
    path = write(
        tmp_path / "l.jsonl",
        *[{"box": [0, 0, 0.5, i / 10], "expression": str(i)} for i in range(6)],
    )
    outcome = clipvg("labels", "check", path, "--json")
    assert outcome.code == 2
    [finding] = outcome.json["findings"]
    assert finding["kind"] == "unit"
    assert finding["severity"] == "error"
    assert finding["count"] == 6
    assert finding["rows"] == [0, 1, 2, 3, 4, 5]
    assert finding["message"].endswith("Read with --box_unit unit.")
    assert (outcome.json["labels"], outcome.json["images"]) == (6, 1)
    assert outcome.json["splits"] == {"": {"labels": 6, "images": 1}}


def test_against_and_splits(clipvg, tmp_path):
    columns = [{"split": "train"}, {"split": "val", "image": "1.png"}]
    ours = write(tmp_path / "ours.jsonl", *columns)
    theirs = write(tmp_path / "theirs.jsonl", {"image": "./1.png"})
    outcome = clipvg("labels", "check", ours, "--against", theirs)
    assert outcome.code == 0
    assert "warning leak: " in outcome.out
    assert "split train: 1 labels of 1 images\nsplit val: 1 labels of 1 images" in outcome.out
    outcome = clipvg("labels", "check", ours, "--against", theirs, "--split", "train")
    assert "leak" not in outcome.out
    assert outcome.out.endswith("nothing wrong was found\n")


def test_several_files(clipvg, tmp_path):
    one, two = write(tmp_path / "a.jsonl", {}), write(tmp_path / "b.jsonl", {"expression": ""})
    outcome = clipvg("labels", "check", one, two)
    assert f"{two} row 0: the expression is empty" in outcome.out


def test_what_is_no_label_file(clipvg, tmp_path):
    path = tmp_path / "notes.md"
    path.write_text("no labels")
    outcome = clipvg("labels", "check", path)
    assert outcome.code == 2
    assert "unknown kind of label file '.md'" in outcome.error
    assert "no such folder" in clipvg("labels", "check", path, "--images", tmp_path / "x").error


def test_the_command_that_reads_another_file_is_named(clipvg, tmp_path):
    results = tmp_path / "detections.json"
    results.write_text('[{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}]')
    line = clipvg("labels", "check", results).error
    assert "no label file but detections of images; clipvg generate --observations reads" in line
    seen = tmp_path / "seen.jsonl"
    seen.write_text('{"image": "a.jpg", "captions": ["a dog"]}\n')
    line = clipvg("labels", "check", seen).error
    assert "no label file but captions of images; clipvg generate --observations reads it" in line
    (tmp_path / "test.json").write_text('{"cases": [1], "rule": "x"}')
    line = clipvg("labels", "check", tmp_path / "test.json").error
    assert "test.json: an object with cases, rule: neither COCO instances" in line
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"12345678")
    assert "clipvg info" in clipvg("labels", "check", weights).error


def test_a_training_is_warned_of_images_of_its_validation(tmp_path):
    from clipvg.cli.options import warn_of_findings
    from clipvg.labels import read_labels

    ours = read_labels(write(tmp_path / "ours.jsonl", {}, {}, {"image": "1.png"}))
    with pytest.warns(UserWarning, match="leak") as caught:
        warn_of_findings(ours, read_labels(write(tmp_path / "theirs.jsonl", {"image": "./1.png"})))
    said = [str(each.message) for each in caught]
    assert said[0].startswith("leak: labels on images of --validation, 1 images: 1; row 2: 1.png")
    assert said[1].startswith("duplicate: ")
    assert len(said) == 2


def test_rows_are_those_of_the_files_of_a_pattern_and_of_a_split(clipvg, tmp_path):
    head = "image,expression,x1,y1,x2,y2,split\n"
    good, bad = "a.jpg,dog,1,2,30,40,{}\n", "a.jpg,cat,30,2,1,40,val\n"
    (tmp_path / "1.csv").write_text(head + good.format("train"))
    (tmp_path / "2.csv").write_text(head + good.format("train") + good.format("val") + bad)
    outcome = clipvg("labels", "check", tmp_path / "[12].csv", "--split", "val")
    assert "2 labels of 1 images" in outcome.out
    assert "2.csv row 2: box (30, 2, 1, 40)" in outcome.out
    outcome = clipvg("labels", "check", tmp_path / "2.csv", "--split", "val", "--json")
    [found] = json.loads(outcome.out)["findings"]
    assert found["rows"] == [2]
    line = clipvg("labels", "check", tmp_path / "*.csv", "--split", "test").error
    assert "no label of split 'test'; there are train (2), val (2)" in line
