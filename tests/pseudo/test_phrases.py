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
    "lady with back to us": "lady with back to us",
    "the man with his back to the camera": "man with his back to the camera",
    "man leaning back": "man leaning back",
    "front bus": "bus [big]",
    "front legs of the horse": "front legs of the horse",
    "back left person": "person [small left]",
    "person in back left": "person [small left]",
    "front row second from left": "thing [big left 2]",
    "man in back row on right": "man [small right]",
    "sandwich above the other": "sandwich above (sandwich)",
    "right half of sandwich": "sandwich [right]",
    "left side of the pizza": "pizza [left]",
    "person on left end of couch": "person on couch [left]",
    "train on the left track": "train on the track [left]",
    "left hand of woman": "hand of woman [left]",
    "man with racket in left hand": "man with racket in left hand",
    "man with left arm raised": "man with left arm raised",
    "the laptop on the right-hand side": "laptop [right]",
    "left-most boat": "boat [left]",
    "bed closest to window": "bed closest to window",
    "bed nearest window": "bed nearest window",
    "nearest bed": "bed [big]",
    "broccoli on the left closest to the carrots": "broccoli closest to the carrots [left]",
    "the closest motorcycle to us": "motorcycle [big]",
    "closest to left edge": "thing [left]",
    "the giraffe that is further away": "giraffe that is away [small]",
    "farthest left guy": "guy [left]",
    "giraffe on left with head up": "giraffe with head up [left]",
    "zebra facing right": "zebra facing right",
    "guy looking to the left": "guy looking to the left",
    "truck facing right on the left": "truck facing right [left]",
    "second row, 3rd from left": "thing [left 3]",
    "2 from left": "thing [left 2]",
    "fourth guy from the right": "guy [right 4]",
    "the larger of the two elephants": "elephants [big]",
    "the bigger of the two": "thing [big]",
    "left of the two women": "women [left]",
    "woman left of center": "woman [left]",
    "the person directly to the right of the woman in red": "person right (woman in red)",
    "a person to the far right of a group": "person right (group)",
    "under the clock": "thing below (clock)",
    "right of the bowl": "thing right (bowl)",
    "lamp right above the bed": "lamp above (bed)",
    "chair right next to the table": "chair right next to the table",
    "lady with small dog": "lady with small dog",
    "elephant behind the big one": "elephant behind the big one",
    "a small giraffe standing between two large ones":
        "giraffe standing between two large ones [small]",
    "not the left one": "not the left one",
    "man not in front": "man not in front",
    "on right in black": "thing in black [right]",
    "guy w/ hat on left": "guy with hat [left]",
    "man, on the left.": "man [left]",
}  # fmt: skip


@pytest.mark.parametrize(("expression", "expected"), READ.items())
def test_real_expressions(expression: str, expected: str) -> None:
    assert shown(read_phrase(expression)) == expected


@pytest.mark.parametrize("expression", ["x", "1", "?", "left", "the", "left of", "in", "a of the"])
def test_little_is_read_as_something(expression: str) -> None:
    assert read_phrase(expression).text
