"""Probability that an expression means the object in a box and no other in its image.

An object joins detections of several models, at most one of each (`Views`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from clipvg.pseudo.kinds import group_of
from clipvg.pseudo.meaning.reading import Meaning
from clipvg.pseudo.observation import Box, Detection, Observation, Relation
from clipvg.pseudo.plane import area, centre, distinct, overlap
from clipvg.pseudo.relation.rules import Rule, Thing
from clipvg.pseudo.relation.wording import say_predicate
from clipvg.pseudo.template.names import may_mean, spoken
from clipvg.pseudo.template.ranks import CLEAR_X, CLEAR_Y, CLEARLY_BIGGER
from clipvg.pseudo.template.scene import LIKELY, SAME_BOX, SAME_OBJECT

_BADLY_PLACED = 0.2  # IoU from which a detection may be of an object, though badly placed
_UNKNOWN = 0.5  # probability of an object that nobody has seen
_ERRS = 1 / 9  # odds that a model errs

Named = Callable[[str], bool]


@dataclass(frozen=True, eq=False)
class Views:
    """An object, and the models' detections of it."""

    box: Box  # xyxy in pixels
    placed: tuple[Detection, ...] = ()  # detections whose box is this one
    misplaced: tuple[Detection, ...] = ()  # those with another box that seem to be of this object

    @property
    def seen(self) -> tuple[Detection, ...]:
        """All detections of the object."""
        return (*self.placed, *self.misplaced)

    @cached_property
    def exists(self) -> float:
        """Probability that the object exists."""
        if not self.seen:
            return _UNKNOWN
        return 1 - math.prod(1 - one.score for one in self.seen)

    @cached_property
    def fits_box(self) -> float:
        """Probability that `box` is the object's box."""
        return _vote(self.placed, self.misplaced)

    def is_called(self, named: Named) -> float:
        """Return the probability that the object's class is one of those named."""
        return _vote(*_parted(self.seen, lambda one: named(one.name)))

    def has(self, word: str) -> float:
        """Return the probability that the object has an attribute, by models that name any."""
        told = [one for one in self.seen if one.attributes]
        return _vote(*_parted(told, lambda one: one.attributes.get(word, 0.0) > LIKELY))

    @cached_property
    def thing(self) -> Thing:
        """The object as the rules of relations see it."""
        name = max(self.seen, key=lambda one: one.score).name.lower() if self.seen else ""
        return Thing(-1, name, group_of(name), self.box, 1.0, is_cut=False)

    @property
    def middle(self) -> tuple[float, float]:
        """Centre of its box."""
        return centre(self.box)

    @property
    def size(self) -> float:
        """Logarithm of its area in square pixels, at least 0."""
        return math.log(max(area(self.box), 1.0))


def look_about(observation: Observation, box: Box, named: Named) -> tuple[Views, list[Views]]:
    """Return the object in a box, and the others of its image.

    Each model has at most one detection of an object: the one that overlaps it most, among those in
    the same place, or in roughly the same place and of a matching class.

    Args:
        observation: observation of the image.
        box: xyxy in pixels, box of the first object.
        named: whether a class is the one looked for in the box.
    """
    rest = [_without_doubles(found) for found in _models(observation)]
    own = _gather(box, named, rest)
    return own, _gather_all(rest)


def look_at(observation: Observation) -> list[Views]:
    """Return the objects of an image, the best scored first."""
    return _gather_all([_without_doubles(found) for found in _models(observation)])


def _gather_all(rest: list[list[Detection]]) -> list[Views]:
    """Group the models' remaining detections into objects."""
    objects = []
    while any(rest):
        seed = max((one for found in rest for one in found), key=lambda one: one.score)
        views = _gather(seed.box, _like(seed.name), rest)
        objects.append(Views(_mean_box(views.seen), views.seen))
    return objects


def _gather(box: Box, named: Named, rest: list[list[Detection]]) -> Views:
    """Collect the models' detections of the object in a box, removing them from `rest`."""
    placed: list[Detection] = []
    misplaced: list[Detection] = []
    for found in rest:
        near = [(overlap(one.box, box), i) for i, one in enumerate(found)]
        near = [
            (o, i) for o, i in near if o >= (_BADLY_PLACED if named(found[i].name) else SAME_BOX)
        ]
        if near:
            shared, i = max(near, key=lambda each: (each[0], -each[1]))
            (placed if shared >= SAME_BOX else misplaced).append(found.pop(i))
    return Views(box, tuple(placed), tuple(misplaced))


def _models(observation: Observation) -> Iterator[Sequence[Detection]]:
    """Yield the detections of each model that gives boxes."""
    yield observation.detections
    yield observation.attribute_detections
    ends: dict[tuple[str, Box], Detection] = {}
    for edge in observation.relations:
        first, _, second = edge.scores
        ends[edge.subject, edge.subject_box] = Detection(edge.subject, edge.subject_box, first)
        ends[edge.object, edge.object_box] = Detection(edge.object, edge.object_box, second)
    yield [*ends.values()]


def _without_doubles(found: Sequence[Detection]) -> list[Detection]:
    return distinct(
        (one for one in sorted(found, key=lambda one: -one.score) if area(one.box)),
        lambda one, other: (
            overlap(one.box, other.box) > SAME_OBJECT and _like(one.name)(other.name)
        ),
    )


def _like(name: str) -> Named:
    return lambda other: may_mean(spoken(name), spoken(other))


def _mean_box(views: Sequence[Detection]) -> Box:
    weights = [max(one.score, 1e-6) for one in views]
    total = sum(weights)
    x1, y1, x2, y2 = (
        sum(w * one.box[i] for w, one in zip(weights, views, strict=True)) / total for i in range(4)
    )
    return x1, y1, x2, y2


def _parted(
    views: Sequence[Detection], test: Callable[[Detection], bool]
) -> tuple[list[Detection], list[Detection]]:
    return [one for one in views if test(one)], [one for one in views if not test(one)]


def _vote(yes: Sequence[Detection], no: Sequence[Detection]) -> float:
    """Return the probability of what some models say and others deny; 0.5 if none says anything.

    Each errs independently, one time in ten if it is sure of the object.
    """
    balance = sum(one.score for one in yes) - sum(one.score for one in no)
    return 1 / (1 + _ERRS**balance)


_LIKELY_SAID = 0.75  # probability of a relation that somebody might say holds
_DOUBTED = 0.1  # probability of one that does not seem to hold
Size = tuple[float, float]  # of an image, pixels


def alone(meaning: Meaning, observation: Observation, box: Box, size: Size) -> tuple[float, float]:
    """Return the probability that the object in a box alone is meant, and that of its best rival.

    P = f(own) · Π (1 − w · f(other)) over the other objects, f the probability that the expression
    fits an object. If words of place or size single an object out, w is how far the other comes
    before the own: 1 if it is clearly ahead, 0 if it is clearly behind. Without such words w is 1.
    For "second from the left", the product is the probability that exactly one comes before.

    Args:
        meaning: meaning of the expression.
        observation: observation of the image.
        box: xyxy in pixels, the box whose object is to be meant.
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
    """Return the probability that the expression fits each object, but for place and size."""
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
    """Return the probability that an object has a relation to another."""
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
    """Return how far another object comes before the own, from 0 to 1; 1 without extremes."""
    if not meaning.extremes:
        return 1.0
    steps = [_step(extreme, one, own, size) for extreme in meaning.extremes]
    return min(max((1 + sum(steps) / len(steps)) / 2, 0.0), 1.0)


def _step(extreme: str, one: Views, own: Views, size: Size) -> float:
    """Return by how many clear differences an object comes before the own; negative if after."""
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
    """Return the probability that exactly `count` of several independent events happen."""
    known = [1.0, *[0.0] * count]
    for chance in chances:
        known = [
            p * (1 - chance) + (known[i - 1] * chance if i else 0.0) for i, p in enumerate(known)
        ]
    return known[count]
