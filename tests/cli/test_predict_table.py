"""`clipvg predict TABLE` gives the answers of `predict`, row by row, and can be resumed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clipvg.model import load


@pytest.fixture
def table(tmp_path, labels, pictures):
    """A CSV of questions, and its rows; the last one's image is missing."""
    from clipvg.labels import read_labels

    known = read_labels(labels, images=pictures)
    rows = [*zip(known.image_names, known.expressions, strict=True), ("gone.png", "dog")]
    text = "image,expression\n" + "".join(f'{name},"{said}"\n' for name, said in rows)
    (tmp_path / "questions.csv").write_text(text)
    return tmp_path / "questions.csv", rows


def test_answers_are_those_of_predict(clipvg, checkpoint, pictures, table, tmp_path):
    path, rows = table
    words = ("predict", path, "--images", pictures, "--checkpoint", checkpoint)
    result = clipvg(*words, "--out", tmp_path / "a.jsonl", "--json").json
    assert (result["rows"], result["answered"]) == (len(rows), len(rows) - 1)
    assert "gone.png" in result["reasons"][0]["reason"]
    answers = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    model = load(checkpoint)
    for (name, said), answer in zip(rows[:-1], answers, strict=False):
        found = model.predict(pictures / name, said)
        np.testing.assert_allclose(answer["box"], found.boxes[0], atol=0.01)
        assert answer["score"] == pytest.approx(found.scores[0], abs=1e-3)
        assert answer["present"] == pytest.approx(found.present[0], abs=1e-3)
        assert (answer["image"], answer["expression"]) == (name, said)
    assert "box" not in answers[-1]
    assert "gone.png" in answers[-1]["reason"]
    first = (tmp_path / "a.jsonl").read_bytes()
    again = clipvg(*words, "--out", tmp_path / "a.jsonl", "--json").json
    assert again["found"] == len(rows)
    assert (tmp_path / "a.jsonl").read_bytes() == first
    for ending in ("parquet", "csv", "json"):
        clipvg(*words, "--out", tmp_path / f"a.{ending}", "--store", tmp_path / "a.answers")
        assert (tmp_path / f"a.{ending}").stat().st_size


def test_what_does_not_go_with_a_table(clipvg, checkpoint, pictures, table, tmp_path):
    path, _ = table
    words = ("predict", path, "--checkpoint", checkpoint)
    out = ("--out", tmp_path / "a.jsonl")
    assert "leave out 'dog'" in clipvg("predict", path, "dog", *words[2:], *out).error
    assert "pass --images too" in clipvg(*words, *out).error
    assert "pass --out too" in clipvg(*words, "--images", pictures).error
    assert "change the ending" in clipvg(*words, "--images", pictures, "--out", "a.png").error
    assert "--heatmap draws one image" in clipvg(*words, *out, "--heatmap", "a.png").error
    assert "--box_format is for one image" in clipvg(*words, *out, "--box_format", "xywh").error
    (tmp_path / "b.csv").write_text("image,text\na.png,dog\n")
    line = clipvg("predict", tmp_path / "b.csv", *words[2:], "--images", pictures, *out).error
    assert "no column 'expression'" in line
    (tmp_path / "b.csv").write_text('image,expression\na.png," "\n')
    line = clipvg("predict", tmp_path / "b.csv", *words[2:], "--images", pictures, *out).error
    assert "row 0: the expression is blank" in line
    (tmp_path / "b.csv").write_text("image,expression\n../a.png,dog\n")
    line = clipvg("predict", tmp_path / "b.csv", *words[2:], "--images", pictures, *out).error
    assert "or pass the folder that holds them all" in line
    line = clipvg("predict", "a.png", "dog", "--images", pictures, *words[2:]).error
    assert "--images goes with a table" in line
