"""Rules for relations between boxes: left of, above, in front of, on, in, next to, with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clipvg.pseudo.kinds import CONTAINERS, ON_GROUND, SUPPORTS, WORN_OR_HELD
from clipvg.pseudo.observation import Box
from clipvg.pseudo.plane import share_inside, shared_area


@dataclass(frozen=True)
class Thing:
    """A detection as the rules see it."""

    index: int  # among the image's detections
    name: str  # its class, lower-cased
    group: str  # shared with its rivals; people of all names are one group
    box: Box  # inside the image
    score: float  # of its detection
    is_cut: bool  # whether the lower edge of the image cuts it off


Test = Callable[[Thing, Thing], bool]


@dataclass(frozen=True)
class Rule:
    """A relation of a thing to a landmark."""

    name: str  # for the label's ``pseudo.rule``
    words: str  # between the two names
    holds: Test  # whether it holds beyond doubt
    may_hold: Test  # whether somebody might say so


def _shared_x(first: Box, second: Box) -> float:
    """Return the horizontal overlap in widths of the narrower box; negative for a gap."""
    across = min(first[2], second[2]) - max(first[0], second[0])
    return across / max(1e-9, min(first[2] - first[0], second[2] - second[0]))


def _shared_y(first: Box, second: Box) -> float:
    """Return the vertical overlap in heights of the lower box; negative for a gap."""
    down = min(first[3], second[3]) - max(first[1], second[1])
    return down / max(1e-9, min(first[3] - first[1], second[3] - second[1]))


def _is_left(thing: Thing, landmark: Thing) -> bool:
    box, other = thing.box, landmark.box
    is_beside = _shared_y(box, other) >= 0.5 and _shared_x(box, other) <= 0.1
    return is_beside and box[0] + box[2] < other[0] + other[2]


def _may_be_left(thing: Thing, landmark: Thing) -> bool:
    return thing.box[0] + thing.box[2] < landmark.box[0] + landmark.box[2]


def _is_wholly_left(thing: Thing, landmark: Thing) -> bool:
    return _may_be_left(thing, landmark) and _shared_x(thing.box, landmark.box) <= 0.1


def _is_above(thing: Thing, landmark: Thing) -> bool:
    """Return whether a thing is above; things on the ground or a table are behind instead."""
    if thing.name in ON_GROUND or _lies_on_tables(thing):
        return False
    box, other = thing.box, landmark.box
    is_over = _shared_x(box, other) >= 0.5 and _shared_y(box, other) <= 0.1
    return is_over and box[1] + box[3] < other[1] + other[3]


def _may_be_above(thing: Thing, landmark: Thing) -> bool:
    return thing.box[1] + thing.box[3] < landmark.box[1] + landmark.box[3]


def _is_below(thing: Thing, landmark: Thing) -> bool:
    return _is_above(landmark, thing) and not _lies_on_tables(thing)


def _lies_on_tables(thing: Thing) -> bool:
    return thing.name in SUPPORTS["table"]


def _is_on(thing: Thing, landmark: Thing) -> bool:
    if thing.name not in SUPPORTS.get(landmark.name, ()):
        return False
    box, other = thing.box, landmark.box
    rests = other[1] < box[3] <= other[3] + 0.15 * (other[3] - other[1]) and box[1] < other[3]
    return rests and _shared_x(box, other) >= 0.6 and _meet(thing, landmark)


def _is_in(thing: Thing, landmark: Thing) -> bool:
    is_possible = thing.name in CONTAINERS.get(landmark.name, ())
    return is_possible and share_inside(thing.box, landmark.box) >= 0.85


def _has(thing: Thing, landmark: Thing) -> bool:
    """Return whether a person wears or holds the landmark: most of it lies within their reach."""
    if thing.group != "person" or landmark.name not in WORN_OR_HELD:
        return False
    x1, y1, x2, y2 = thing.box
    reach = 0.25 * (x2 - x1)
    is_in_reach = share_inside(landmark.box, (x1 - reach, y1 - reach, x2 + reach, y2)) >= 0.7
    return is_in_reach and _meet(thing, landmark)


def _may_have(thing: Thing, landmark: Thing) -> bool:
    x1, y1, x2, y2 = thing.box
    reach = 0.5 * (x2 - x1)
    return shared_area((x1 - reach, y1 - reach, x2 + reach, y2 + reach), landmark.box) > 0


def _is_beside(thing: Thing, landmark: Thing) -> bool:
    """Return whether two things are level and apart, by at most half the narrower one's width."""
    box, other = thing.box, landmark.box
    is_level = _shared_y(box, other) >= 0.7 and _shared_x(box, other) <= 0.1
    return is_level and _shared_x(box, other) >= -0.5


def _may_be_beside(thing: Thing, landmark: Thing) -> bool:
    return _shared_x(thing.box, landmark.box) >= -1.5 and _shared_y(thing.box, landmark.box) > 0


def _meet(thing: Thing, landmark: Thing) -> bool:
    return shared_area(thing.box, landmark.box) > 0


def _is_behind(thing: Thing, landmark: Thing) -> bool:
    """Return whether a thing is farther on the ground and partly hidden behind the landmark.

    Its box meets the landmark's and ends higher. One that lies inside the landmark's box does not
    count: it may be on it or in it.
    """
    if not {thing.name, landmark.name} <= ON_GROUND or thing.is_cut or _belong(thing, landmark):
        return False
    box, other = thing.box, landmark.box
    if share_inside(box, other) > 0.6:
        return False
    step = 0.15 * min(box[3] - box[1], other[3] - other[1])
    return other[3] - box[3] >= step and _shared_x(box, other) >= 0.3 and _meet(thing, landmark)


def _may_be_behind(thing: Thing, landmark: Thing) -> bool:
    return thing.box[3] < landmark.box[3]


def _is_clearly_lower(thing: Thing, landmark: Thing) -> bool:
    step = 0.1 * (landmark.box[3] - landmark.box[1])
    return thing.box[3] - landmark.box[3] >= step


def _belong(thing: Thing, landmark: Thing) -> bool:
    """Return whether one may sit on or in the other, which leaves open what is in front."""
    return any(
        first.name in holders.get(second.name, ())
        for holders in (SUPPORTS, CONTAINERS)
        for first, second in ((thing, landmark), (landmark, thing))
    )


def _turned(test: Test) -> Test:
    """Return the test with thing and landmark swapped."""
    return lambda thing, landmark: test(landmark, thing)


HOLDING = Rule("with", "with", _has, _may_have)
IS_LEFT = Rule("left", "to the left of", _is_left, _may_be_left)
# From the most to the least informative; the first that holds for a pair is used.
PLACES = (
    Rule("in", "in", _is_in, _meet),
    Rule("on", "on", _is_on, _meet),
    Rule("front", "in front of", _turned(_is_behind), _turned(_may_be_behind)),
    Rule("behind", "behind", _is_behind, _may_be_behind),
    IS_LEFT,
    Rule("right", "to the right of", _turned(_is_left), _turned(_may_be_left)),
    Rule("above", "above", _is_above, _may_be_above),
    Rule("below", "below", _is_below, _turned(_may_be_above)),
)
NEXT_TO = Rule("next", "next to", _is_beside, _may_be_beside)
# For one of several things of the same name; `may_hold` must hold for all of them.
AMONG_SEVERAL = (
    Rule("left", "to the left of", _is_left, _is_wholly_left),
    Rule("right", "to the right of", _turned(_is_left), _turned(_is_wholly_left)),
    Rule("front", "in front of", _turned(_is_behind), _is_clearly_lower),
)
