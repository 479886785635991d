"""`clipvg labels show`."""


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
