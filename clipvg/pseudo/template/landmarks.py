"""Objects that an image has once, to say where others are."""

from __future__ import annotations

from collections.abc import Iterator

from clipvg.pseudo.template.names import is_several
from clipvg.pseudo.template.scene import Scene, Thing

NEAR = 0.35  # gap between two boxes sideways, of the narrower one's width
MAYBE_NEAR = 0.7  # the same, within which somebody might call another one near
LEVEL = 0.5  # of the lower height that both share
SAME_GROUND = 0.25  # difference of the lower edges, of the taller height
SIMILAR = 6.0  # ratio of areas, at most
LEAST_AREA = 1 / 100  # of the image


def landmarks(scene: Scene) -> list[Thing]:
    """Return the objects that are the only ones of their name, and are there for sure."""
    return [
        one
        for one in scene.things
        if not one.is_faint
        and one.group != "clothes"
        and not is_several(one.name)
        and one.area >= LEAST_AREA * scene.width * scene.height
        and len(scene.rivals(one)) == 1
    ]


def beside(one: Thing, rivals: list[Thing], marks: list[Thing]) -> Iterator[str]:
    """Yield the names of the landmarks that this object alone among its rivals is next to."""
    for mark in marks:
        if mark not in rivals and is_beside(one, mark):
            others = (other for other in rivals if other is not one)
            if not any(_gap(other, mark) <= MAYBE_NEAR for other in others):
                yield mark.name


def is_beside(one: Thing, mark: Thing) -> bool:
    """Whether two objects of similar size stand next to each other on the same ground."""
    if _gap(one, mark) > NEAR or max(one.area, mark.area) > SIMILAR * min(one.area, mark.area):
        return False
    heights = one.box[3] - one.box[1], mark.box[3] - mark.box[1]
    level = min(one.box[3], mark.box[3]) - max(one.box[1], mark.box[1])
    on_same_ground = abs(one.box[3] - mark.box[3]) <= SAME_GROUND * max(heights)
    return level >= LEVEL * min(heights) and on_same_ground and _gap(one, mark) > -0.25


def _gap(one: Thing, mark: Thing) -> float:
    """The gap between two boxes sideways, of the narrower one's width; negative: they overlap."""
    narrow = min(one.box[2] - one.box[0], mark.box[2] - mark.box[0])
    return (max(one.box[0], mark.box[0]) - min(one.box[2], mark.box[2])) / max(narrow, 1e-9)
