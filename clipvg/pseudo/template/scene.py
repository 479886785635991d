"""The distinct objects of an image, for expressions that fit only one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from clipvg.pseudo.observation import Box, Detection, Observation
from clipvg.pseudo.plane import area, centre, distinct, overlap, shared_area
from clipvg.pseudo.template.names import group_of, may_mean, spoken

SAME_OBJECT = 0.4  # IoU of two detections of one group, as published
SAME_BOX = 0.5  # IoU of a detection and an attribute detection
LIKELY = 0.3  # probability of an attribute that is said
PART = 0.85  # share of an object inside another of its kind that makes it doubtful
FAINTEST = 0.5  # of the lowest score: fainter objects are no rivals


@dataclass(frozen=True)
class Thing:
    """An object of the image."""

    # index of its detection; -1 for a doubtful object (faint, or inside another of its kind), which
    # is not described
    index: int
    name: str  # its class
    group: str  # people, clothes or things
    box: Box  # xyxy in pixels, inside the image
    score: float  # of the detection
    words: tuple[str, ...] = ()  # likely attributes, best first

    @cached_property
    def x(self) -> float:
        """Horizontal centre of its box, in pixels."""
        return centre(self.box)[0]

    @cached_property
    def y(self) -> float:
        """Vertical centre of its box, in pixels."""
        return centre(self.box)[1]

    @cached_property
    def area(self) -> float:
        """Area of its box, in square pixels."""
        return area(self.box)

    @property
    def is_faint(self) -> bool:
        """Whether it may not exist at all."""
        return self.index < 0


@dataclass(frozen=True)
class Scene:
    """The objects of an image without duplicates, the best scored first."""

    width: int
    height: int
    things: tuple[Thing, ...]

    def rivals(self, one: Thing) -> list[Thing]:
        """Return all objects that the object's name may mean, itself included."""
        return [other for other in self.things if may_mean(one.name, other.name)]


def build_scene(observation: Observation, least: float) -> Scene:
    """Return the scene of an observation, whose boxes are inside the image.

    Duplicates are suppressed greedily within each group; objects below `least` are not described.
    """
    found = [
        _look(i if one.score >= least else -1, one)
        for i, one in enumerate(observation.detections)
        if one.score >= FAINTEST * least and not one.name.startswith("__")  # as "__background__"
    ]
    found.sort(key=lambda one: -one.score)
    seen = distinct(found, _is_double)
    for place, one in enumerate(seen):
        if any(_is_inside(one, other) for other in seen[:place]):  # a part, or one in front of it
            seen[place] = replace(one, index=-1)
    things = tuple(_with_words(one, observation) for one in seen)
    return Scene(observation.width or 0, observation.height or 0, things)


def _look(index: int, found: Detection) -> Thing:
    name = spoken(found.name)
    return Thing(index, name, group_of(name), found.box, found.score)


def _is_double(one: Thing, other: Thing) -> bool:
    return one.group == other.group and overlap(one.box, other.box) > SAME_OBJECT


def _is_inside(one: Thing, other: Thing) -> bool:
    same = one.group == other.group != "clothes" and may_mean(one.name, other.name)
    return same and shared_area(one.box, other.box) > PART * one.area


def _with_words(one: Thing, observation: Observation) -> Thing:
    """Return the object with its own attributes and those of the best attribute detection."""
    if one.is_faint:
        own: dict[str, float] = {}
    else:
        own = dict(observation.detections[one.index].attributes)
    match = _best_match(one, observation.attribute_detections)
    for word, probability in (match.attributes if match else {}).items():
        own[word] = max(probability, own.get(word, 0.0))
    likely = sorted((-probability, word) for word, probability in own.items())
    words = tuple(word.lower() for probability, word in likely if -probability > LIKELY)
    return replace(one, words=words) if words else one


def _best_match(one: Thing, described: tuple[Detection, ...]) -> Detection | None:
    best, closest = None, SAME_BOX
    for other in described:
        if may_mean(one.name, spoken(other.name)):
            shared = overlap(one.box, other.box)
            if shared > closest:
                best, closest = other, shared
    return best
