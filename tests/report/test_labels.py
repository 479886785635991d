"""The page of a file of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.report.figures import center_map, count_bars
from clipvg.report.html import render_html
from clipvg.report.labels import report_labels


@pytest.fixture
def labels(tmp_path: Path) -> LabelTable:
    Image.new("RGB", (80, 60), "white").save(tmp_path / "a.png")
    return LabelTable.from_columns(
        image=["a.png"] * 4,
        expression=["red dog", "left dog", "dogs <b>", "the bigger of the two cats"],
        box=[[10, 10, 30, 50]] * 4,
        images=tmp_path,
        source=["template", "template", "caption", "relation"],
        **{"pseudo.rule": ["attribute", "place", None, "bigger"]},
    )


def test_counts_by_source_rule_and_class(labels: LabelTable) -> None:
    report = report_labels(labels, name="x.jsonl")
    rules, classes = report.tables
    assert [row[:4] for row in rules.rows] == [
        ("caption", "–", "1", "25.0%"),
        ("relation", "bigger", "1", "25.0%"),
        ("template", "attribute", "1", "25.0%"),
        ("template", "place", "1", "25.0%"),
    ]
    assert classes.rows == [("dog", "3", "75.0%"), ("cat", "1", "25.0%")]
    assert dict(report.facts)["labels an image"] == "4.0"
    assert dict(report.facts)["words, median"] == "2"


def test_a_sample_of_each_rule_is_drawn_with_its_box(labels: LabelTable) -> None:
    many = LabelTable.concat([labels] * 5)
    report = report_labels(many, name="x.jsonl", per_rule=2)
    assert len(report.gallery) == 8
    assert report.gallery[0].caption == "dogs <b>"
    assert report.gallery[-1].detail == "template · place · a.png"
    again = report_labels(many, name="x.jsonl", per_rule=2)
    assert [each.data for each in again.gallery] == [each.data for each in report.gallery]


def test_the_page_stands_alone_and_escapes_its_text(labels: LabelTable) -> None:
    page = render_html(report_labels(labels, name="<x>.jsonl"))
    assert "dogs &lt;b&gt;" in page
    assert "<x>" not in page
    assert "<b>" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert 'href="#large-1"' in page  # a picture enlarges


def test_labels_without_rules_or_sources_are_shown(labels: LabelTable) -> None:
    plain = labels.drop_columns(["source", "pseudo.rule"])
    assert report_labels(plain, name="x").tables[0].rows[0][:2] == ("unknown", "–")


def test_no_labels_are_refused(labels: LabelTable) -> None:
    with pytest.raises(InputError, match="no labels to show"):
        report_labels(labels.select([]), name="x")


def test_bars_count_every_value_and_the_last_takes_the_rest() -> None:
    axes = count_bars([1, 1, 3, 50], "words").axes[0]
    assert [bar.get_height() for bar in axes.patches][:3] == [2, 0, 1]
    assert axes.get_xticklabels()[-1].get_text() == "20+"


def test_the_map_counts_centres_as_shares() -> None:
    boxes = np.array([[0, 0, 10, 10], [90, 190, 100, 200]], np.float32)
    image = center_map(boxes, np.array([[100, 200], [100, 200]])).axes[0].images[0].get_array()
    assert image is not None
    assert (image[0, 0], image[-1, -1], image.sum()) == (1, 1, 2)
