"""``--split``: train, adapt and evaluate need it for a file of several; score takes all splits."""

from __future__ import annotations

import pytest

from clipvg.labels import read_labels

SPLITS = ["train"] * 9 + ["val"] * 4 + ["testA"] * 3


@pytest.fixture
def several(labels, tmp_path):
    """The sixteen labels in three splits."""
    read_labels(labels).with_column("split", SPLITS).write(tmp_path / "refs.parquet")
    return tmp_path / "refs.parquet"


@pytest.mark.parametrize("command", ["train", "adapt", "evaluate"])
def test_a_file_of_several_splits_needs_one(clipvg, several, pictures, tmp_path, command):
    out = ("--checkpoint", tmp_path) if command == "evaluate" else ("--out", tmp_path / "run")
    line = clipvg(command, several, "--images", pictures, *out).error
    assert "labels of 3 splits, train (9), val (4), testA (3); choose one with --split tr" in line


def test_evaluate_counts_only_the_split(clipvg, several, pictures, checkpoint):
    words = ["evaluate", several, "--images", pictures, "--checkpoint", checkpoint, "--json"]
    assert clipvg(*words, "--split", "testA").json["count"] == 3
    line = clipvg(*words, "--split", "testa").error
    assert "no label of split 'testa'; there are train (9)" in line


def test_the_validation_file_has_a_split_of_its_own(clipvg, several, pictures, tmp_path):
    words = ["train", several, "--images", pictures, "--out", tmp_path / "run", "--split", "train"]
    line = clipvg(*words, "--validation", several).error
    assert "labels of 3 splits" in line
    assert "--validation_split" in line
    line = clipvg(*words, "--validation_split", "val").error
    assert "--validation_split without --validation" in line


def test_score_takes_all_splits_and_keeps_the_column(
    clipvg, several, pictures, checkpoint, tmp_path
):
    out = tmp_path / "scored.parquet"
    words = ["score", several, "--images", pictures, "--measurer", f"a={checkpoint}", "--out", out]
    assert clipvg(*words, "--quiet").code == 0
    assert read_labels(out).splits == {"train": 9, "val": 4, "testA": 3}
