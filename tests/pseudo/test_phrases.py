"""Expressions of RefCOCO, RefCOCO+ and RefCOCOg, read as a reader would."""

from __future__ import annotations

import pytest

from clipvg.pseudo.meaning.phrases import Phrase, read_phrase


def shown(phrase: Phrase) -> str:
    """Return a phrase in one line: words [place] relation (landmark)."""
    nth = f" {phrase.nth + 1}" if phrase.nth else ""
    place = f" [{' '.join(phrase.extremes)}{nth}]" if phrase.extremes else ""
    there = f" {phrase.relation} ({shown(phrase.landmark)})" if phrase.landmark else ""
    return phrase.text + place + there


READ = {
    "guy in white on left side": "guy in white [left]",
    "elephant on the left behind tree": "elephant behind tree [left]",
    "pizza at bottom": "pizza [bottom]",
    "top left donut": "donut [top left]",
    "horse in middle near man": "horse near man [middle]",
    "middle giraffe of the three": "giraffe of the three [middle]",
    "bottom center white hat": "white hat [bottom middle]",
    "book second from left": "book [left 2]",
    "table far right": "table [right]",
    "far left guy": "guy [left]",
    "boat on the right": "boat [right]",
    "large laptop": "laptop [big]",
    "smallest child": "child [small]",
    "smaller couch": "couch [small]",
    "couch bottom right": "couch [bottom right]",
    "the elephant that is standing in the back": "elephant that is standing [small]",
    "woman under umbrella": "woman below (umbrella)",
    "guy standing above blue bars": "guy standing above (blue bars)",
    "the speedboat in the water": "speedboat inside (water)",
    "car driving in the road": "car driving inside (road)",
    "the man in the white shirt": "man in the white shirt",
    "the man in the black zippered shirt": "man in the black zippered shirt",
    "a large pizza in front of a woman and behind another pizza":
        "pizza in front of a woman and behind another pizza [big]",
    "a steel fork on the right side of a green plate": "steel fork right (green plate)",
    "a bird flying to the right of another bird": "bird flying right (bird)",
    "nut and carrot section to the right of the meat section":
        "nut and carrot section right (meat section)",
    "the appliance to the left of the girl in the black": "appliance left (girl in the black)",
    "the large couch between the lights": "couch between the lights [big]",
    "the sheep on the right side with the woman in white top": "sheep with the woman in white top "
        "[right]",
    "an elephant with a woman on top of it with a flower in her hair":
        "elephant with a woman on top of it with a flower in her hair",
}  # fmt: skip


@pytest.mark.parametrize(("expression", "expected"), READ.items())
def test_real_expressions(expression: str, expected: str) -> None:
    assert shown(read_phrase(expression)) == expected


@pytest.mark.parametrize("expression", ["x", "1", "?", "left", "the", "left of", "in", "a of the"])
def test_little_is_read_as_something(expression: str) -> None:
    assert read_phrase(expression).text
