"""How likely it is that an expression means the object in a box, and no other of its image."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clipvg.pseudo.meaning.objects import Views, look_about
from clipvg.pseudo.meaning.reading import Meaning
from clipvg.pseudo.observation import Box, Observation, Relation
from clipvg.pseudo.plane import overlap
from clipvg.pseudo.relation.rules import Rule
from clipvg.pseudo.relation.wording import say_predicate
from clipvg.pseudo.template.ranks import CLEAR_X, CLEAR_Y, CLEARLY_BIGGER
from clipvg.pseudo.template.scene import SAME_BOX

_LIKELY_SAID = 0.75  # probability of a relation of which somebody might say that it holds
_DOUBTED = 0.1  # of one that does not seem to hold
Size = tuple[float, float]  # of an image, pixels


def alone(meaning: Meaning, observation: Observation, box: Box, size: Size) -> tuple[float, float]:
    """Return the probability that a box is what is meant and nothing else is, and of a rival.

    P = f(own) · Π (1 − w · f(other)) over the other objects, f the probability that what is said
    fits an object, w the share in which the other comes before the own where one is singled out by
    its place or size: 1 where it is clearly ahead, 0 where it is clearly behind. Without such words
    w is 1. Of "second from the left" it is the probability that just one comes before.

    Args:
        meaning: of the expression.
        observation: of the image.
        box: xyxy in pixels, whose object is to be what is meant.
        size: width and height of the image.

    Returns:
        That probability, and the largest w · f of another object.
    """
    own, others = look_about(observation, box, meaning.names_class)
    own_fits, *fits = _fits(meaning, [own, *others], observation.relations)
    before = [
        fit * one.exists * _ahead(meaning, one, own, size)
        for one, fit in zip(others, fits, strict=True)
    ]
    return own_fits * own.fits_box * just(meaning.nth, before), max(before, default=0.0)


def _fits(meaning: Meaning, objects: Sequence[Views], edges: Sequence[Relation]) -> list[float]:
    """The probability for each object that what is said fits it, but for place and size."""
    looks = [_looks(meaning, one) for one in objects]
    if meaning.landmark is None or meaning.relation is None:
        return looks
    there = _fits(meaning.landmark, objects, edges)
    marks = [(other, fit * other.exists) for other, fit in zip(objects, there, strict=True)]
    found = []
    for one, look in zip(objects, looks, strict=True):
        none = math.prod(
            1 - fit * _holds(meaning.relation, one, other, edges)
            for other, fit in marks
            if other is not one
        )
        found.append(look * (1 - none))
    return found


def _looks(meaning: Meaning, one: Views) -> float:
    looks = math.prod(map(one.has, meaning.words))
    return looks if meaning.names is None else looks * one.is_called(meaning.names_class)


def _holds(relation: Rule | str, one: Views, other: Views, edges: Sequence[Relation]) -> float:
    """The probability that an object is in a relation to another."""
    if isinstance(relation, Rule):
        if relation.holds(one.thing, other.thing):
            return 1.0
        return _LIKELY_SAID if relation.may_hold(one.thing, other.thing) else _DOUBTED
    said = (edge for edge in edges if say_predicate(edge.predicate) == relation)
    is_said = any(
        overlap(edge.subject_box, one.box) >= SAME_BOX
        and overlap(edge.object_box, other.box) >= SAME_BOX
        for edge in said
    )
    return 1.0 if is_said else _DOUBTED


def _ahead(meaning: Meaning, one: Views, own: Views, size: Size) -> float:
    """How far another object comes before the own, from 0 to 1; 1 where nothing is singled out."""
    if not meaning.extremes:
        return 1.0
    steps = [_step(extreme, one, own, size) for extreme in meaning.extremes]
    return min(max((1 + sum(steps) / len(steps)) / 2, 0.0), 1.0)


def _step(extreme: str, one: Views, own: Views, size: Size) -> float:
    """By how many clear differences an object comes before another, negative: after."""
    (x, y), (own_x, own_y) = one.middle, own.middle
    width, height = size
    if extreme in ("big", "small"):
        step = (one.size - own.size) / math.log(CLEARLY_BIGGER)
        return step if extreme == "big" else -step
    if extreme in ("left", "right"):
        step = (own_x - x) / (CLEAR_X * width)
        return step if extreme == "left" else -step
    if extreme in ("top", "bottom"):
        step = (own_y - y) / (CLEAR_Y * height)
        return step if extreme == "top" else -step
    return (abs(own_x - width / 2) - abs(x - width / 2)) / (CLEAR_X * width)


def just(count: int, chances: Sequence[float]) -> float:
    """Return the probability that just so many of independent events happen."""
    known = [1.0, *[0.0] * count]
    for chance in chances:
        known = [
            p * (1 - chance) + (known[i - 1] * chance if i else 0.0) for i, p in enumerate(known)
        ]
    return known[count]
