"""`clipvg observe`: what it refuses, and what it prints."""

from __future__ import annotations

import sys

import pytest
from PIL import Image
from support.pretrained import save


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (64, 48), "red").save(tmp_path / "a.jpg")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing looks at the images; name a detector, an open_detector or a captioner"),
        (["--open_detector", "x"], "open_detector needs classes"),
        (["--detector", "x", "--classes", "dog"], "classes are what an open_detector looks for"),
        (["--captioner", "x", "--describer", "x"], "describer needs detections"),
        (["--detector", "x", "--attributes", "vlm"], "--attributes: expected 'clip'"),
        (["--detector", "x", "--min_score", "2"], "min_score is 2.0, expected at most 1"),
        (["--detector", "x", "--batch_size", "0"], "batch_size is 0, expected at least 1"),
        (["--open_detector", "x", "--classes", "none.txt"], "none.txt: no such file"),
        (["--detector", "x", "--out", "seen.csv"], "written as .parquet, .jsonl"),
        (["--detector", "x", "--images", "none"], "no such folder"),
        (["--detector", "x", "--images", "empty"], "no images in it"),
    ],
)
def test_wrong_options_are_one_line(clipvg, folder, words, message, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    given = ["--images", ".", "--out", "seen.parquet", *words]
    assert message in clipvg("observe", *given).error
    assert {path.name for path in folder.iterdir()} == {"a.jpg", "empty"}


def test_a_missing_extra_is_one_line_with_the_command(clipvg, folder, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    words = ["--images", folder, "--detector", "org/detr", "--out", folder / "seen.parquet"]
    assert "pip install 'clipvg[observe]'" in clipvg("observe", *words).error
    assert [path.name for path in folder.iterdir()] == ["a.jpg"]


@pytest.mark.transformers
def test_a_hub_out_of_reach_is_one_line_with_the_remedy(clipvg, folder, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    words = ["--images", folder, "--detector", "org/detr", "--out", folder / "seen.parquet"]
    line = clipvg("observe", *words).error
    assert "hf download org/detr --local-dir FOLDER" in line


@pytest.mark.transformers
def test_it_says_what_was_seen(clipvg, folder, tmp_path_factory) -> None:
    models = tmp_path_factory.mktemp("models")
    (folder / "b.jpg").write_bytes(b"no image")
    (folder / "names.txt").write_text("dog\ntraffic light\n\n")
    words = [
        "--images", folder, "--open_detector", save("owlv2", models), "--classes",
        folder / "names.txt", "--min_score", 0, "--out", folder / "seen.parquet",
    ]  # fmt: skip
    outcome = clipvg("observe", *words)
    assert outcome.code == 0, outcome.err
    assert "observed: 1 of 2 images" in outcome.out
    assert "b.jpg: not an image" in outcome.out
    result = clipvg("observe", *words, "--json").json
    assert result["found"] == result["images"] == 2
    assert result["detections"] > 0
    labels = folder / "labels.jsonl"
    told = clipvg("generate", "--observations", folder / "seen.parquet", "--out", labels,
                  "--ambiguous", "keep").out  # fmt: skip
    assert "left out: 1" in told
