"""`--on_error drop` leaves out what cannot be read, in every command that opens images."""

from __future__ import annotations

import json

import pytest
import yaml

from clipvg.labels import read_labels

MODEL = {"pretrained": None, "width": 16, "layers": 1, "heads": 2, "feedforward": 16}
QUICK = {"epochs": 1, "batch_size": 8, "augment": False}


@pytest.fixture
def words(labels, pictures, tmp_path):
    """Labels of which the last two name images that are not there."""
    table = read_labels(labels)
    names = [*table.image_names[:-2], "gone.png", "lost.png"]
    table.with_column("image", names).write(tmp_path / "labels.parquet")
    return [tmp_path / "labels.parquet", "--images", pictures, "--quiet"]


def test_evaluate(clipvg, words, checkpoint):
    words = ["evaluate", *words, "--checkpoint", checkpoint]
    line = clipvg(*words).error
    assert "2 of 16 labels cannot be used (row 14: " in line
    assert line.count("--on_error drop") == 1
    outcome = clipvg(*words, "--on_error", "drop", "--json")
    assert (outcome.json["count"], outcome.json["left_out"]) == (14, 2)
    assert "gone.png: no such file" in outcome.err


def test_a_fault_that_labels_share_is_told_once(clipvg, words, checkpoint):
    table = read_labels(words[0])
    table.with_column("image", ["gone.png"] * 16).write(words[0])
    line = clipvg("evaluate", *words, "--checkpoint", checkpoint).error
    assert "16 of 16 labels cannot be used (row 0: " in line
    assert line.count("gone.png") == 1


def test_train(clipvg, words, tmp_path):
    config, out = tmp_path / "quick.yaml", tmp_path / "run"
    config.write_text(
        yaml.safe_dump({"backbone": "clipvg-tiny", "model": MODEL, "training": QUICK})
    )
    words = ["train", *words, "--config", config, "--out", out]
    assert "2 of 16 labels cannot be used" in clipvg(*words).error
    assert not out.exists()
    assert clipvg(*words, "--on_error", "drop").code == 0
    assert len(read_labels(out / "labels.parquet")) == 14
    assert json.loads((out / "summary.json").read_text())["labels"]["count"] == 14
