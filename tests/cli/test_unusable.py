"""`--on_error drop` leaves out unusable labels in every command that opens images."""

from __future__ import annotations

import json

import pytest
import yaml

from clipvg.labels import read_labels

pytestmark = pytest.mark.usefixtures("undrawn")

MODEL = {"pretrained": None, "width": 16, "layers": 1, "heads": 2, "feedforward": 16}
QUICK = {"epochs": 1, "batch_size": 8, "augment": False}


@pytest.fixture
def words(labels, pictures, tmp_path):
    """Arguments of a command: labels whose last two images are missing."""
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


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """A model that refuses long expressions, as the authors' do."""
    from clipvg.model import create_model

    model = create_model("clipvg-tiny", preset="published", **MODEL)
    folder = tmp_path_factory.mktemp("published") / "model"
    model.save_pretrained(folder)
    return folder


def test_no_command_stops_in_the_middle_at_a_long_expression(
    clipvg, labels, pictures, published, tmp_path
):
    table = read_labels(labels)
    texts = table.expressions
    texts[3] = "a very long expression " * 40
    file, scored, page = (tmp_path / name for name in ("l.parquet", "s.parquet", "p.html"))
    table.with_column("expression", texts).write(file)
    config = tmp_path / "quick.yaml"
    model = {**MODEL, "preset": "published"}
    config.write_text(
        yaml.safe_dump({"backbone": "clipvg-tiny", "model": model, "training": QUICK})
    )
    images = [file, "--images", pictures]
    commands = [
        ["evaluate", *images, "--checkpoint", published],
        ["score", *images, "--measurer", f"m={published}", "--measure", "region", "--out", scored],
        ["labels", "show", *images, "--checkpoint", published, "--worst", "3", "--out", page],
        ["train", *images, "--config", config, "--out", tmp_path / "run"],
        ["adapt", *images, "--config", config, "--out", tmp_path / "run"],
    ]
    for words in commands:
        outcome = clipvg(*words)
        assert outcome.code == 2
        line = outcome.err.splitlines()[-1]  # after the warnings of the label check
        assert "1 of 16 labels cannot be used (row 3: 'a very long" in line
        assert "tokens, more than 77). Fix them, or leave them out with --on_error drop." in line
    for words in commands[:3]:
        assert clipvg(*words, "--on_error", "drop").code == 0
    assert len(read_labels(scored)) == 15
    assert page.is_file()


def test_a_table_has_the_reason_in_place_of_an_answer(clipvg, pictures, published, tmp_path):
    table, out = tmp_path / "q.csv", tmp_path / "a.jsonl"
    long = "very " * 90
    table.write_text(f"image,expression\n0.png,dog\n1.png,{long}\ngone.png,cat\n0.png,sky\n")
    words = ["predict", table, "--images", pictures, "--checkpoint", published, "--out", out]
    assert clipvg(*words, "--json").json["answered"] == 2
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert ["box" in answer for answer in answers] == [True, False, False, True]
    assert "tokens, more than 77" in answers[1]["reason"]
    assert "gone.png" in answers[2]["reason"]
    table.write_text(f"image,expression\n1.png,{long}\n")
    assert "1 of 1 labels cannot be used (row 0: 'very" in clipvg(*words).err


def test_a_score_in_python_says_it_before_the_first_step(labels, pictures, published):
    import clipvg
    from clipvg.errors import InputError
    from clipvg.measures.region import RegionAlignment

    model = clipvg.load(published)
    table = read_labels(labels, images=pictures)[:2]
    long = table.with_column("expression", ["dog", "very " * 90])
    with pytest.raises(InputError, match=r"1 of 2 labels cannot be used \(row 1: 'very"):
        clipvg.score(long, {"m": model})
    assert len(clipvg.score(long, {"r": RegionAlignment(model)})["r"]) == 2  # it has its own rules
