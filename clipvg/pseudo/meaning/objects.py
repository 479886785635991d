"""Objects of an image as several models see them: one detection of each model, put together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from clipvg.pseudo.kinds import group_of
from clipvg.pseudo.observation import Box, Detection, Observation
from clipvg.pseudo.plane import area, centre, distinct, overlap
from clipvg.pseudo.relation.rules import Thing
from clipvg.pseudo.template.names import may_mean, spoken
from clipvg.pseudo.template.scene import LIKELY, SAME_BOX, SAME_OBJECT

_BADLY_PLACED = 0.2  # IoU from which a detection may be of an object, badly placed
_UNKNOWN = 0.5  # probability of an object that nobody has seen
_ERRS = 1 / 9  # odds that a model errs

Named = Callable[[str], bool]


@dataclass(frozen=True, eq=False)
class Views:
    """An object, and what models make of it.

    Attributes:
        box: xyxy in pixels.
        placed: detections whose box is this one.
        misplaced: detections that seem to be of this object, with another box.
    """

    box: Box
    placed: tuple[Detection, ...] = ()
    misplaced: tuple[Detection, ...] = ()

    @property
    def seen(self) -> tuple[Detection, ...]:
        """All of them."""
        return (*self.placed, *self.misplaced)

    @cached_property
    def exists(self) -> float:
        """Probability that there is an object."""
        if not self.seen:
            return _UNKNOWN
        return 1 - math.prod(1 - one.score for one in self.seen)

    @cached_property
    def fits_box(self) -> float:
        """Probability that its box is this one."""
        return _vote(self.placed, self.misplaced)

    def is_called(self, named: Named) -> float:
        """Return the probability that a name is one of its."""
        return _vote(*_parted(self.seen, lambda one: named(one.name)))

    def has(self, word: str) -> float:
        """Return the probability that an attribute is one of its, by models that name some."""
        told = [one for one in self.seen if one.attributes]
        return _vote(*_parted(told, lambda one: one.attributes.get(word, 0.0) > LIKELY))

    @cached_property
    def thing(self) -> Thing:
        """The object as rules of relations see it."""
        name = max(self.seen, key=lambda one: one.score).name.lower() if self.seen else ""
        return Thing(-1, name, group_of(name), self.box, 1.0, is_cut=False)

    @property
    def middle(self) -> tuple[float, float]:
        """Middle of its box."""
        return centre(self.box)

    @property
    def size(self) -> float:
        """Logarithm of its area, at least of a square pixel."""
        return math.log(max(area(self.box), 1.0))


def look_about(observation: Observation, box: Box, named: Named) -> tuple[Views, list[Views]]:
    """Return the object in a box, and the others of its image.

    A model finds an object once. Its detection of an object is the one that overlaps most, where
    both are in one place, or roughly so and of a name.

    Args:
        observation: what models say of the image.
        box: xyxy in pixels, what the first object fills.
        named: whether a class is what is looked for in the box.
    """
    rest = [_without_doubles(found) for found in _models(observation)]
    own = _gather(box, named, rest)
    return own, _gather_all(rest)


def look_at(observation: Observation) -> list[Views]:
    """Return the objects of an image, the best scored first."""
    return _gather_all([_without_doubles(found) for found in _models(observation)])


def _gather_all(rest: list[list[Detection]]) -> list[Views]:
    """Put together what is left of the models' detections."""
    objects = []
    while any(rest):
        seed = max((one for found in rest for one in found), key=lambda one: one.score)
        views = _gather(seed.box, _like(seed.name), rest)
        objects.append(Views(_mean_box(views.seen), views.seen))
    return objects


def _gather(box: Box, named: Named, rest: list[list[Detection]]) -> Views:
    """What models see in a place, which is taken from what is left of their detections."""
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
    """The detections of each model that says where things are."""
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
    """The probability of what some models say and others deny; 0.5 where none says anything.

    Each errs by itself, one time in ten where it is sure of the object.
    """
    balance = sum(one.score for one in yes) - sum(one.score for one in no)
    return 1 / (1 + _ERRS**balance)
