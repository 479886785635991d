"""Entities counted by rules, on expressions of RefCOCO, RefCOCO+ and RefCOCOg and on scenes."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipvg.data.scenes import make_labels
from clipvg.labels import LabelTable
from clipvg.pseudo import count_entities, entity_heads, mean_entities

# Expressions as people wrote them in the validation splits, and what they name.
WRITTEN = [
    ("white dish in the top right corner", "dish"),
    ("bowl of carrots", "bowl carrots"),
    ("man in tan coat", "man coat"),
    ("table laptop is on", "laptop"),
    ("lower right corner blue bag", "bag"),
    ("orange below big one left", "orange"),
    ("silver remote third from left", "remote"),
    ("pink shirt looking at phone", "shirt phone"),
    ("man red shirt", "man shirt"),
    ("person in white holding red book", "person book"),
    ("male in white shirt", "male shirt"),
    ("table under dark haired guy with bear can behind boy", "table guy bear boy"),
    ("baseball player", "player"),
    ("the man's hat", "man hat"),
    ("a man with a blue and white t - shirt wearing black pants", "man t-shirt pants"),
    ("a piece of bread with garnish", "bread"),
    ("a small child wearing a stripped dress eating", "child dress"),
    ("the white stuffed animal on the bottom", "animal"),
    ("a zebra doesn ' t have birds on its back", "zebra birds"),
    ("apples to the right side of the bananas", "apples bananas"),
    ("the person covering their face with a circular object", "person face object"),
    ("a well made bed , with a turquoise towel on it", "bed towel"),
    ("the umpire in a black shirt standing behind the baseball players", "umpire shirt players"),
    ("a row of glasses with a womens hand", "glasses hand"),
    ("left of the red", "red"),
    ("the building behind #2", "building"),
]


@pytest.mark.parametrize(("expression", "heads"), WRITTEN)
def test_heads(expression: str, heads: str) -> None:
    assert entity_heads(expression) == heads.split()
    assert entity_heads(expression.upper()) == heads.split()


@pytest.mark.parametrize(
    ("expression", "count"), [("far left", 1), ("yellow", 1), ("", 0), ("?", 0)]
)
def test_an_expression_that_names_nothing_has_one_entity(expression: str, count: int) -> None:
    assert count_entities(expression) == count


def test_the_mean_counts_every_label() -> None:
    expressions = ["dog", "dog", "dog", "dog on a sofa near a cat"]
    labels = LabelTable.from_columns(
        image=["a"] * 4, expression=expressions, box=[[0, 0, 1, 1]] * 4
    )
    assert mean_entities(labels) == 6 / 4
    assert mean_entities(labels.select([])) == 0


def test_sources_of_scenes_are_ordered_by_what_they_say(tmp_path: Path) -> None:
    """Template names one object; relation and most captions name two."""
    means = {
        source: mean_entities(make_labels(tmp_path / source, 60, source=source, seed=1))
        for source in ("template", "relation", "caption")
    }
    assert means["template"] == 1
    assert means["relation"] == 2
    assert 1.9 <= means["caption"] <= 2
