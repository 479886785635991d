"""Splits of one file: chosen by name, counted, never mixed unless asked for."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

import clipvg
from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels

SPLITS = ["train", "train", "train", "val", "testA", "testA"]


def table(splits: list[str | None] | None = SPLITS) -> LabelTable:
    count = len(splits or SPLITS)
    columns = {} if splits is None else {"split": splits}
    return LabelTable.from_columns(
        image=[f"{row}.jpg" for row in range(count)],
        expression=[f"dog {row}" for row in range(count)],
        box=[[0, 0, 10, 10 + row] for row in range(count)],
        **columns,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "labels.parquet"
    table().write(path)
    return path


def test_splits_are_counted_in_order_of_appearance() -> None:
    assert table().splits == {"train": 3, "val": 1, "testA": 2}
    assert table(["b", None, "", "b"]).splits == {"b": 2}
    assert table(None).splits == {}
    assert table([None, None]).splits == {}


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_a_split_is_read_alone_and_keeps_its_column(tmp_path: Path, ending: str) -> None:
    table().write(tmp_path / f"labels.{ending}")
    labels = read_labels(tmp_path / f"labels.{ending}", split="testA")
    assert labels.expressions == ["dog 4", "dog 5"]
    assert labels.splits == {"testA": 2}
    assert read_labels(tmp_path / f"labels.{ending}").splits == table().splits


def test_refer_is_read_by_split(tmp_path: Path) -> None:
    objects = [{"id": i, "image_id": 1, "bbox": [0, 0, 9, 9], "category_id": 1} for i in range(3)]
    images = [{"id": 1, "file_name": "a.jpg", "width": 10, "height": 10}]
    instances = {"images": images, "annotations": objects, "categories": []}
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    refs = [
        {
            "ref_id": i,
            "ann_id": i,
            "image_id": 1,
            "split": split,
            "sentences": [{"sent_id": i, "sent": f"dog {i}", "raw": ""}],
        }
        for i, split in enumerate(["train", "testA", "testB"])
    ]
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(refs))
    assert read_labels(tmp_path / "refs(unc).p", split="testB").expressions == ["dog 2"]


def test_a_split_that_is_not_there_lists_those_that_are(file: Path) -> None:
    with pytest.raises(InputError, match=r"no label of split 'testa'; there are train \(3\)"):
        read_labels(file, split="testa")
    with pytest.raises(InputError, match=r"'minival'; there are train \(3\), val \(1\)"):
        read_labels(file, split="minival")


def test_without_a_column_no_split_can_be_chosen(tmp_path: Path) -> None:
    table(None).write(tmp_path / "plain.jsonl")
    with pytest.raises(InputError, match=r"plain\.jsonl: no column 'split'.*ask for no split"):
        read_labels(tmp_path / "plain.jsonl", split="val")


def test_files_of_one_split_each_are_read_together(tmp_path: Path) -> None:
    for name in ("train", "val"):
        table([name] * 2).write(tmp_path / f"{name}.parquet")
    files = [tmp_path / "train.parquet", tmp_path / "val.parquet"]
    assert len(read_labels(files, split="val")) == 2
    with pytest.raises(InputError, match=r"train \(2\), val \(2\)"):
        read_labels(files, split="other")


def test_faults_of_other_splits_do_not_matter_and_rows_are_those_of_the_file(
    tmp_path: Path,
) -> None:
    rows = [
        {"image": "a.jpg", "expression": "dog", "box": [9, 0, 1, 1], "split": "train"},
        {"image": "a.jpg", "expression": "dog", "box": [0, 0, 1, 1], "split": "val"},
        {"image": "a.jpg", "expression": "", "box": [0, 0, 1, 1], "split": "val"},
        {"image": "../a.jpg", "expression": "cat", "box": [0, 0, 1, 1], "split": "test"},
    ]
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match="row 2: the expression is empty"):
        read_labels(path, split="val", images=tmp_path)
    with pytest.warns(UserWarning, match="dropped 1 of 2 rows"):
        labels = read_labels(path, split="val", images=tmp_path, on_error="drop")
    assert labels.expressions == ["dog"]
    assert [found.rows.tolist() for found in labels.dropped] == [[2]]
    with pytest.raises(InputError, match=r"row 3: image '\.\./a\.jpg' leads out"):
        read_labels(path, split="test", images=tmp_path)


def test_training_and_evaluation_refuse_to_mix_splits(tmp_path: Path) -> None:
    several = r"labels of 3 splits, train \(3\).*choose one with split='train'"
    for call in (
        lambda: clipvg.train(table(), out=tmp_path / "run"),
        lambda: clipvg.adapt(table(), out=tmp_path / "run"),
        lambda: clipvg.evaluate("no-such-model", table()),
    ):
        with pytest.raises(InputError, match=several):
            call()
    with pytest.raises(InputError, match=r"validation: labels of 3 splits"):
        clipvg.train(table(["train"]), validation=table(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
