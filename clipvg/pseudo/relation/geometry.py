"""Expressions from the boxes alone: where one thing lies relative to another.

A rule tells for a pair of boxes whether it holds beyond doubt, and whether somebody might say so.
An expression is made if its rule holds beyond doubt for one thing of its kind, nobody might say it
of another, and there is only one landmark of that name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, permutations

from clipvg.pseudo.kinds import NEVER_COMPARED, RIVAL_SHARE, WORN_OR_HELD, group_of
from clipvg.pseudo.observation import Candidate, Observation
from clipvg.pseudo.plane import area, clip_box, distinct, gap, overlap
from clipvg.pseudo.relation.rules import (
    AMONG_SEVERAL,
    HOLDING,
    IS_LEFT,
    NEXT_TO,
    PLACES,
    Rule,
    Thing,
)
from clipvg.pseudo.relation.wording import say_name, say_object
from clipvg.pseudo.sources import Options
from clipvg.pseudo.words import make_plural

Found = tuple[Thing, str, str]  # the described thing, the words, the rule
_LEAST_AREA = 1 / 250  # of the image; smaller things are hard to see
_SAME_THING = 0.5  # IoU above which two boxes of one group are one thing
_SAME_PLACE = 0.8  # the same for boxes of any groups
_STEP = 0.5  # of the landmark's width, by which the second must be beyond twice the first's gap
_CLEARLY_BIGGER = 2.0  # ratio of areas


@dataclass(frozen=True)
class Scene:
    """The things of an image, and those among them that may be described."""

    groups: dict[str, list[Thing]]  # all things, weak detections too, by group
    described: list[Thing]  # things with enough score and area


def compare_boxes(observation: Observation, options: Options) -> list[Candidate]:
    """Return expressions for the relative positions of an image's boxes."""
    scene = _look(observation, options.min_score)
    found = [
        *_from_landmarks(scene, is_strict=options.ambiguous == "drop"),
        *_nearest(scene),
        *_among_alike(scene),
    ]
    return [
        Candidate(expression, thing.box, rule, thing.index) for thing, expression, rule in found
    ]


def _look(observation: Observation, min_score: float) -> Scene:
    found = _clipped(observation, RIVAL_SHARE * min_score)
    things = distinct(sorted(found, key=lambda thing: -thing.score), _is_double)
    groups: dict[str, list[Thing]] = defaultdict(list)
    for thing in things:
        groups[thing.group].append(thing)
    least = _LEAST_AREA * (observation.width or 0) * (observation.height or 0)
    described = [thing for thing in things if thing.score >= min_score and area(thing.box) >= least]
    return Scene(dict(groups), sorted(described, key=lambda thing: thing.index))


def _clipped(observation: Observation, least: float) -> Iterator[Thing]:
    width, height = observation.width, observation.height
    for index, detection in enumerate(observation.detections):
        box = clip_box(detection.box, width, height)
        if box is not None and detection.score >= least:
            is_cut = height is not None and detection.box[3] >= 0.985 * height
            name = detection.name.lower()
            yield Thing(index, name, group_of(name), box, detection.score, is_cut)


def _is_double(thing: Thing, other: Thing) -> bool:
    limit = _SAME_THING if thing.group == other.group else _SAME_PLACE
    return overlap(thing.box, other.box) > limit


def _from_landmarks(scene: Scene, *, is_strict: bool) -> Iterator[Found]:
    """Yield "dog to the left of the bench", for landmarks that are the only ones of their group."""
    for thing, landmark in permutations(scene.described, 2):
        if thing.group == landmark.group or len(scene.groups[landmark.group]) > 1:
            continue
        rivals = [each for each in scene.groups[thing.group] if each is not thing]
        for rule in _holding(thing, landmark):
            if not is_strict or not any(rule.may_hold(rival, landmark) for rival in rivals):
                yield thing, _say(thing, rule, landmark), rule.name


def _nearest(scene: Scene) -> Iterator[Found]:
    """Yield "dog closest to the bench", if one is much closer than the others."""
    for landmark in scene.described:
        if len(scene.groups[landmark.group]) > 1 or landmark.name in WORN_OR_HELD:
            continue
        for group in scene.groups.values():
            nearest, *others = sorted(group, key=lambda each: gap(each.box, landmark.box))
            is_sure = bool(others) and nearest in scene.described and others[0] in scene.described
            if is_sure and _is_much_nearer(nearest, others[0], landmark):
                words = f"{say_name(nearest.name)} closest to the {say_name(landmark.name)}"
                yield nearest, words, "closest"


def _is_much_nearer(nearest: Thing, second: Thing, landmark: Thing) -> bool:
    step = _STEP * (landmark.box[2] - landmark.box[0])
    return gap(second.box, landmark.box) > 2 * gap(nearest.box, landmark.box) + step


def _holding(thing: Thing, landmark: Thing) -> Iterator[Rule]:
    """Yield the rules that hold for a pair: position, being neighbours, wearing or holding."""
    if landmark.name in WORN_OR_HELD or thing.name in WORN_OR_HELD:
        yield from (rule for rule in (HOLDING,) if rule.holds(thing, landmark))
        return
    yield from islice((rule for rule in PLACES if rule.holds(thing, landmark)), 1)
    yield from (rule for rule in (NEXT_TO,) if rule.holds(thing, landmark))


def _say(thing: Thing, rule: Rule, landmark: Thing) -> str:
    name = say_name(landmark.name)
    return f"{say_name(thing.name)} {rule.words} {say_object(rule.words, name)}"


def _among_alike(scene: Scene) -> Iterator[Found]:
    """Yield expressions for things among others of the same name."""
    for group in scene.groups.values():
        if not all(each in scene.described and each.name == group[0].name for each in group):
            continue
        if len(group) == 2:
            yield from _beside_the_other(group)
            yield from _by_size(group)
        if len(group) == 3:
            yield from _in_the_middle(group)
        if len(group) >= 3:
            yield from _beside_the_others(group)


def _beside_the_other(two: list[Thing]) -> Iterator[Found]:
    """Yield "dog in front of the other dog"."""
    for thing, other in permutations(two):
        name = say_name(thing.name)
        for rule in islice((rule for rule in PLACES if rule.holds(thing, other)), 1):
            yield thing, f"{name} {rule.words} the other {name}", rule.name


def _in_the_middle(three: list[Thing]) -> Iterator[Found]:
    """Yield "dog between the other two dogs"."""
    first, middle, last = sorted(three, key=lambda thing: thing.box[0] + thing.box[2])
    if IS_LEFT.holds(first, middle) and IS_LEFT.holds(middle, last):
        name = say_name(middle.name)
        yield middle, f"{name} between the other two {make_plural(name)}", "between"


def _beside_the_others(several: list[Thing]) -> Iterator[Found]:
    """Yield "dog to the left of the other dogs", if true of all of them and clearly of one."""
    for rule in AMONG_SEVERAL:
        for thing in several:
            others = [other for other in several if other is not thing]
            is_of_all = all(rule.may_hold(thing, other) for other in others)
            if is_of_all and any(rule.holds(thing, other) for other in others):
                name = say_name(thing.name)
                yield thing, f"{name} {rule.words} the other {make_plural(name)}", rule.name


def _by_size(two: list[Thing]) -> Iterator[Found]:
    """Yield "the bigger of the two dogs"."""
    small, big = sorted(two, key=lambda thing: area(thing.box))
    is_clear = area(big.box) >= _CLEARLY_BIGGER * area(small.box)
    if not is_clear or small.group in NEVER_COMPARED or small.is_cut:
        return
    both = make_plural(say_name(big.name))
    yield big, f"the bigger of the two {both}", "bigger"
    yield small, f"the smaller of the two {both}", "smaller"
