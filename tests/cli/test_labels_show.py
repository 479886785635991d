"""`clipvg labels show`."""

import re


def test_a_page_is_written(clipvg, labels, pictures, tmp_path):
    page = tmp_path / "new" / "labels.html"
    outcome = clipvg("labels", "show", labels, "--images", pictures, "--out", page, "--json")
    assert outcome.json == {
        "labels": 16,
        "images": 8,
        "sources": {"template": 16},
        "rules": {},
        "page": str(page),
    }
    assert "red thing" in page.read_text()
    assert "&lt;b&gt;" in page.read_text()


def test_for_people(clipvg, labels, pictures, tmp_path):
    page = tmp_path / "labels.html"
    words = ("labels", "show", labels, "--images", pictures, "--out", page)
    assert clipvg(*words).out == f"16 labels of 8 images\npage: {page}\n"


def test_input_that_cannot_be_shown(clipvg, labels, pictures, tmp_path):
    words = ("labels", "show", labels, "--images")
    assert "no such folder" in clipvg(*words, tmp_path / "x", "--out", tmp_path / "p.html").error
    assert "is a folder" in clipvg(*words, pictures, "--out", tmp_path).error
    page = tmp_path / "p.html"
    outcome = clipvg(*words, pictures, "--out", page, "--per-rule", 0)
    assert "--per_rule 0: expected a whole number from 1" in outcome.error
    missing = tmp_path / "missing.jsonl"
    missing.write_text('{"image": "no.png", "expression": "a", "box": [1, 1, 5, 5]}\n')
    outcome = clipvg("labels", "show", missing, "--images", pictures, "--out", page)
    assert "no.png" in outcome.error
    assert not page.exists()


def test_the_worst_by_the_model_are_shown_with_its_boxes(
    clipvg, labels, pictures, checkpoint, tmp_path
):
    page = tmp_path / "worst.html"
    words = ("labels", "show", labels, "--images", pictures, "--out", page, "--worst", 4)
    outcome = clipvg(*words, "--checkpoint", checkpoint)
    assert outcome.code == 0, outcome.err
    text = page.read_text()
    assert "The 4 labels of the lowest IoU with the predicted box, worst first." in text
    overlaps = [float(each) for each in re.findall(r"with the label ([\d.]+)\s%", text)]
    assert len(overlaps) == 4
    assert overlaps == sorted(overlaps)
    assert len(re.findall(r", score [\d.]+\s%", text)) == 4


def test_choices_that_cannot_be_made(clipvg, labels, pictures, tmp_path):
    page = tmp_path / "p.html"
    words = ("labels", "show", labels, "--images", pictures, "--out", page)
    assert "--worst 3: these labels have no reliability" in clipvg(*words, "--worst", 3).error
    assert "--worst 0: expected a whole number" in clipvg(*words, "--worst", 0).error
    assert "--sample -1: expected a whole number" in clipvg(*words, "--sample", -1).error
    both = clipvg(*words, "--worst", 3, "--sample", 3)
    assert "--worst 3 and --sample 3 do not go together" in both.error
    unknown = clipvg(*words, "--worst", 3, "--sort", "sorce")
    assert "no column 'sorce': did you mean 'source'" in unknown.error
    text = clipvg(*words, "--sample", 3, "--sort", "source")
    assert "column 'source' holds no numbers to sort by" in text.error
    assert not page.exists()
