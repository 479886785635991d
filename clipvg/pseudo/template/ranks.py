"""Patterns that set an object apart from others: place, order, size, depth, or a landmark.

Filled with the object's name, a pattern fits this object alone. Differences too small to see are
ignored. Objects that may not exist (faint ones) must not make an expression wrong, nor is an object
compared with them alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from clipvg.pseudo.template.names import is_mass, is_several
from clipvg.pseudo.template.scene import Scene, Thing
from clipvg.pseudo.words import make_plural

Pattern = tuple[str, str]

CLEAR_X, CLEAR_Y = 0.06, 0.12  # clear distances between centres, in shares of the image's sides
CLEAR_STEP = 0.04  # the same between neighbours of a row, in shares of the width
LEAST_SPANNED = 0.6  # share of the narrower one's width that spans it
CLEARLY_BIGGER = 1.8  # ratio of areas
MUCH_BIGGER = 3.0  # ratio of areas that tells front from back
MOST_IN_ROW = 6
_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
_ORDINALS = {1: "second", 2: "third"}


def patterns(one: Thing, rivals: list[Thing], scene: Scene) -> Iterator[Pattern]:
    """Yield patterns that fit one object alone among its rivals (itself included), with rules."""
    if len(rivals) < 2:
        return
    sure = sum(not other.is_faint for other in rivals)
    if one.group == "people" and sure > 1:
        yield from _in_depth(one, rivals, scene, sure)
    if len(rivals) - sure > sure:
        return  # a crowd, in which more may be undetected
    yield from _sideways(one, rivals, scene, sure)
    if sure == 1:
        return  # the others may not exist
    if sure == len(rivals):
        yield from _in_row(one, rivals, scene)
    if one.group != "people":
        yield from _upright(one, rivals, scene)
        yield from _by_size(one, rivals, scene, sure)


def _sideways(one: Thing, rivals: list[Thing], scene: Scene, sure: int) -> Iterator[Pattern]:
    others = [other for other in rivals if other is not one]
    for side, sign in (("left", -1), ("right", 1)):
        ahead = min(sign * (one.x - other.x) for other in others)
        if ahead < CLEAR_X * scene.width or _reaches_over(one, others):
            continue
        share = one.x / scene.width if side == "left" else 1 - one.x / scene.width
        if sure == 2:
            yield f"{side} {{n}}", "place"
        elif sure > 2:
            yield f"{side}most {{n}}", "superlative"
        if share < 0.4:
            far = "far " if sure > 2 and share < 0.2 else ""
            yield f"{{n}} on the {far}{side}", "place"


def _reaches_over(one: Thing, others: list[Thing]) -> bool:
    """Return whether the object spans most of another sideways, so that neither is at a side."""
    for other in others:
        shared = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
        narrow = min(one.box[2] - one.box[0], other.box[2] - other.box[0])
        if shared > LEAST_SPANNED * narrow:
            return True
    return False


def _in_row(one: Thing, rivals: list[Thing], scene: Scene) -> Iterator[Pattern]:
    """Yield middle, second from the left, left one of the two, for well separated rows."""
    row = sorted(rivals, key=lambda other: other.x)
    steps = [b.x - a.x for a, b in pairwise(row)]
    if len(row) > MOST_IN_ROW or min(steps) < CLEAR_STEP * scene.width or not _is_level(row):
        return
    place, count = row.index(one), len(row)
    several = (
        f"{_NUMBERS[count]} {make_plural(one.name)}"
        if (len({other.name for other in rivals}) == 1) and not is_mass(one.name)
        else ""
    )
    if count == 2 and several:
        yield f"{'left' if place == 0 else 'right'} one of the {several}", "count"
    elif place in (0, count - 1) and several:
        yield f"{'left' if place == 0 else 'right'}most of the {several}", "count"
    if count == 3 and place == 1:
        yield "middle {n}", "place"
        yield "{n} in the middle", "place"
        if several:
            yield f"middle one of the {several}", "count"
    if count > 2:
        for side, steps_in in (("left", place), ("right", count - 1 - place)):
            if steps_in in _ORDINALS and steps_in <= count // 2:
                yield f"{_ORDINALS[steps_in]} {{n}} from the {side}", "ordinal"


def _is_level(row: list[Thing]) -> bool:
    """Return whether objects stand side by side: each reaches the middle of its neighbour."""
    return all(a.box[1] < b.y < a.box[3] or b.box[1] < a.y < b.box[3] for a, b in pairwise(row))


def _upright(one: Thing, rivals: list[Thing], scene: Scene) -> Iterator[Pattern]:
    least = CLEAR_Y * scene.height
    others = [other for other in rivals if other is not one]
    if all(one.box[3] < other.y and other.y - one.y >= least for other in others):
        yield "top {n}", "place"
        if one.y < scene.height / 3:
            yield "{n} at the top", "place"
    if all(one.box[1] > other.y and one.y - other.y >= least for other in others):
        yield "bottom {n}", "place"
        if one.y > scene.height * 2 / 3:
            yield "{n} at the bottom", "place"


def _by_size(one: Thing, rivals: list[Thing], scene: Scene, sure: int) -> Iterator[Pattern]:
    others = [other.area for other in rivals if other is not one]
    if one.area >= CLEARLY_BIGGER * max(others):
        words = ("bigger", "larger") if sure == 2 else ("biggest", "largest")
        for word in words:
            yield f"{word} {{n}}", "superlative"
    # An object that the edge of the image cuts off only looks small.
    if one.area * CLEARLY_BIGGER <= min(others) and not _is_cut(one, scene):
        yield f"{'smaller' if sure == 2 else 'smallest'} {{n}}", "superlative"


def _is_cut(one: Thing, scene: Scene) -> bool:
    x1, y1, x2, y2 = one.box
    return x1 <= 2 or y1 <= 2 or x2 >= scene.width - 2 or y2 >= scene.height - 2


def _in_depth(one: Thing, rivals: list[Thing], scene: Scene, sure: int) -> Iterator[Pattern]:
    """Yield front and back: nearer people are bigger and stand lower in the image."""
    others = [other for other in rivals if other is not one]
    if all(one.area >= MUCH_BIGGER * o.area and one.box[3] >= o.box[3] for o in others):
        yield "{n} in front", "depth"
        yield "closest {n}" if sure > 2 else "closer {n}", "superlative"
    small = all(one.area * MUCH_BIGGER <= o.area and one.box[3] < o.box[3] for o in others)
    if small and not _is_cut(one, scene):
        yield "{n} in the background", "depth"


NEAR = 0.35  # sideways gap between two boxes, in widths of the narrower one
MAYBE_NEAR = 0.7  # the same, within which somebody might call another one near
LEVEL = 0.5  # share of the lower height that both boxes have in common
SAME_GROUND = 0.25  # difference of the lower edges, in shares of the taller height
SIMILAR = 6.0  # ratio of areas, at most
LEAST_AREA = 1 / 100  # of the image


def landmarks(scene: Scene) -> list[Thing]:
    """Return the objects that certainly exist and are the only ones of their name."""
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
    """Yield the names of the landmarks that only this object among its rivals is next to."""
    for mark in marks:
        if mark not in rivals and _is_beside(one, mark):
            others = (other for other in rivals if other is not one)
            if not any(_gap(other, mark) <= MAYBE_NEAR for other in others):
                yield mark.name


def _is_beside(one: Thing, mark: Thing) -> bool:
    """Return whether two objects of similar size stand next to each other on the same ground."""
    if _gap(one, mark) > NEAR or max(one.area, mark.area) > SIMILAR * min(one.area, mark.area):
        return False
    heights = one.box[3] - one.box[1], mark.box[3] - mark.box[1]
    level = min(one.box[3], mark.box[3]) - max(one.box[1], mark.box[1])
    on_same_ground = abs(one.box[3] - mark.box[3]) <= SAME_GROUND * max(heights)
    return level >= LEVEL * min(heights) and on_same_ground and _gap(one, mark) > -0.25


def _gap(one: Thing, mark: Thing) -> float:
    """Return the sideways gap in widths of the narrower box; negative if they overlap."""
    narrow = min(one.box[2] - one.box[0], mark.box[2] - mark.box[0])
    return (max(one.box[0], mark.box[0]) - min(one.box[2], mark.box[2])) / max(narrow, 1e-9)
