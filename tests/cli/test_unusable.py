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
    assert "--on_error drop" in line
    outcome = clipvg(*words, "--on_error", "drop", "--json")
    assert (outcome.json["count"], outcome.json["left_out"]) == (14, 2)
    assert "gone.png: no such file" in outcome.err


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
