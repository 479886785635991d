"""The page that shows a label file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.report.choice import Choice
from clipvg.report.figures import center_map, count_bars
from clipvg.report.html import render_html
from clipvg.report.labels import report_labels

pytestmark = pytest.mark.usefixtures("undrawn")


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
        ("caption", "–", "1", "25.0 %"),
        ("relation", "bigger", "1", "25.0 %"),
        ("template", "attribute", "1", "25.0 %"),
        ("template", "place", "1", "25.0 %"),
    ]
    assert classes.rows == [("dog", "3", "75.0 %"), ("cat", "1", "25.0 %")]
    assert dict(report.facts)["labels an image"] == "4.0"
    assert dict(report.facts)["words, median"] == "2"


def test_a_sample_of_each_rule_is_drawn_with_its_box(labels: LabelTable) -> None:
    many = LabelTable.concat([labels] * 5)
    report = report_labels(many, name="x.jsonl", choice=Choice(per_rule=2))
    assert len(report.gallery) == 8
    assert report.gallery[0].caption == "dogs <b>"
    assert report.gallery[-1].detail == "template · place · a.png\ncheck: duplicate"
    again = report_labels(many, name="x.jsonl", choice=Choice(per_rule=2))
    assert [each.data for each in again.gallery] == [each.data for each in report.gallery]


def scored(labels: LabelTable) -> LabelTable:
    """The labels with scores of one measurer, of which one is missing."""
    return labels.with_column("reliability.m", np.array([0.5, np.nan, 0.1, 0.9], np.float32))


def test_the_worst_come_first_and_those_not_scored_last(labels: LabelTable) -> None:
    report = report_labels(scored(labels), name="x", choice=Choice(worst=2))
    assert [each.caption for each in report.gallery] == ["dogs <b>", "red dog"]
    assert report.gallery[0].detail == "caption · a.png\nreliability 0.10 by m"
    assert "The 2 labels of the lowest reliability by m, worst first." in report.gallery_note
    report = report_labels(scored(labels), name="x", choice=Choice(worst=9))
    assert report.gallery[-1].detail.endswith("reliability – by m")


def test_any_column_of_numbers_sorts(labels: LabelTable) -> None:
    counted = scored(labels).with_column("votes", [3, 1, 2, 0])
    report = report_labels(counted, name="x", choice=Choice(worst=2, sort="votes"))
    assert [each.detail.splitlines()[-1] for each in report.gallery] == ["votes 0", "votes 1"]
    report = report_labels(counted, name="x", choice=Choice(sample=3, sort="votes"))
    votes = [each.detail.splitlines()[-1] for each in report.gallery]
    assert votes == sorted(votes)
    assert len(votes) == 3
    report = report_labels(counted, name="x", choice=Choice(sort="m"))
    assert [each.caption for each in report.gallery][::3] == ["dogs <b>", "left dog"]


def test_a_sample_hangs_on_the_seed_alone(labels: LabelTable) -> None:
    rules = [("", "")] * 1000
    many = LabelTable.concat([labels] * 250)
    rows = Choice(sample=5, seed=1).rows(many, rules)
    assert rows.tolist() == Choice(sample=5, seed=1).rows(many, rules).tolist()
    assert rows.tolist() != Choice(sample=5, seed=2).rows(many, rules).tolist()
    assert len(set(rows.tolist())) == 5


def test_several_measurers_are_to_be_chosen_among(labels: LabelTable) -> None:
    both = scored(labels).with_column("reliability.n", [0.1, 0.2, 0.3, 0.4])
    with pytest.raises(InputError, match=r"scored by m, n; choose .* sort='m'"):
        Choice(worst=1).column(both)
    assert Choice(worst=1, sort="n").column(both) == "reliability.n"


def test_findings_are_listed_and_said_of_their_labels(labels: LabelTable) -> None:
    assert "nothing wrong" in report_labels(labels, name="x").lead
    twice = LabelTable.concat([labels, labels.select([0])])
    report = report_labels(twice, name="x", choice=Choice(sample=5))
    (finding,) = report.tables[0].rows
    assert finding[0].startswith("duplicate: ")
    assert finding[1:] == ("warning", "1")
    assert [each.detail.splitlines()[-1] for each in report.gallery][-1] == "check: duplicate"
    beyond = labels.with_column("box", [[10.0, 10, 30, 90]] * 4)  # only the image's size shows it
    assert report_labels(beyond, name="x").tables[0].rows[0][0].startswith("outside: ")


def test_the_page_stands_alone_and_escapes_its_text(labels: LabelTable) -> None:
    page = render_html(report_labels(labels, name="<x>.jsonl"))
    assert "dogs &lt;b&gt;" in page
    assert "<x>" not in page
    assert "<b>" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert 'href="#large-1"' in page  # a picture can be enlarged


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
