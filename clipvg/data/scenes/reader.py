"""Find the object in a scene that a text refers to, without knowing how the text was made.

Generated labels have no truth of their own. `read` resolves an expression of any source against
the scene, with the same margins as `language`; `with_truth` does so for a table of labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from clipvg.data.scenes.language import (
    RELATIONS,
    extreme,
    is_related,
    outermost,
    place,
    size_word,
)
from clipvg.data.scenes.world import COLOURS, SHAPES, TEXTURES, Scene
from clipvg.labels import LabelTable

_OPPOSITES = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
_NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_ORDINALS = {"second": 1, "third": 2}
_SAME = {
    "leftmost": "left", "rightmost": "right", "center": "middle",
    "bigger": "big", "biggest": "big", "larger": "big", "largest": "big",
    "smaller": "small", "smallest": "small",
}  # fmt: skip
_PLURALS = {f"{shape}{'es' if shape.endswith('s') else 's'}": shape for shape in SHAPES}
_NEXT_TO = 0.2  # largest gap between boxes "next to" each other, of the image's longer side
_MUCH_FARTHER = 1.5  # ratio of gaps from which the closest object is clearly closer than the second

_OF = re.compile(r"(\w+)(?: one)? of the (two|three|four|five|six) (.+)")
_ORDINAL = re.compile(r"(second|third) (.+) from the (left|right)")
_RELATION = re.compile(
    r"(.+?) (?:to the )?(left of|right of|above|below|next to|closest to|between) "
    r"(?:the|a|an) (other )?(two )?(.+)"
)
_PLACE = re.compile(r"(.+) (?:on|at|in) the (?:far )?(?:side )?((?:top|bottom)? ?\w+)")

Found = tuple[int, ...]


def read(expression: str, scene: Scene) -> Found:
    """Return the objects that an expression could refer to; empty if none fits.

    A word that singles out one of several objects (left, biggest, second) must apply clearly. If
    only one object matches the rest of the expression, the word need only not be false. An
    expression has a true box if one object is left.
    """
    text = expression.lower().strip()
    text = re.sub(r"^(the|an|a) ", "", text)
    if match := _OF.fullmatch(text):
        word, number, noun = match.groups()
        found = _named(noun, scene)
        return _pick(word, found, scene) if len(found) == _NUMBERS[number] else ()
    if match := _ORDINAL.fullmatch(text):
        ordinal, noun, side = match.groups()
        return _nth(_ORDINALS[ordinal], _named(noun, scene), side, scene)
    if match := _RELATION.fullmatch(text):
        return _related(match, scene)
    if match := _PLACE.fullmatch(text):
        return _pick(match[2].strip(), _named(match[1], scene), scene)
    return _named(text, scene)


def with_truth(labels: LabelTable, scenes: Mapping[str, Scene]) -> LabelTable:
    """Return labels with `truth`: the box of the one object that each refers to, else null."""
    truth = []
    for name, expression in zip(labels.image_names, labels.expressions, strict=True):
        found = read(expression, scenes[name])
        truth.append(scenes[name].objects[found[0]].box if len(found) == 1 else None)
    return labels.with_column("truth", truth)


def _named(noun: str, scene: Scene) -> Found:
    """Return the objects that a noun with the words before it may refer to."""
    *words, last = noun.split()
    shape = _PLURALS.get(last, last)
    found = tuple(i for i, item in enumerate(scene.objects) if item.shape == shape)
    picked = []
    for word in words:
        if word in COLOURS:
            found = tuple(i for i in found if scene.objects[i].colour == word)
        elif word in TEXTURES:
            found = tuple(i for i in found if scene.objects[i].texture == word)
        else:
            picked.append(word)
    for word in picked:  # such as the biggest of those that match the rest
        found = _pick(word, found, scene)
    return found


def _pick(word: str, found: Found, scene: Scene) -> Found:
    """Return the objects that a position or a size singles out."""
    word = _SAME.get(word, word)
    if len(found) == 1:
        return () if _is_false(word, found[0], scene) else found
    if word in ("big", "small"):
        areas = [scene.objects[i].area for i in found]
        return tuple(extreme(list(found), areas, word == "big"))
    if word in ("left", "right", "top", "bottom"):
        return tuple(outermost(scene, list(found), word))
    if word == "middle" and len(found) == 3:
        return _nth(1, found, "left", scene)
    if word == "medium":
        return tuple(i for i in found if size_word(scene, scene.objects[i]) == word)
    places = {i: place(scene, scene.objects[i]) for i in found}
    return tuple(i for i in found if _SAME.get(places[i], places[i]) == word)


def _is_false(word: str, index: int, scene: Scene) -> bool:
    """Return whether a position is false for an object: whether it lies in the opposite third."""
    where = place(scene, scene.objects[index]).split()
    return any(_OPPOSITES.get(part) in where for part in word.split())


def _nth(number: int, found: Found, side: str, scene: Scene) -> Found:
    """Return the object at a number (from 0) from one side of a row, if all lie clearly apart."""
    sign = 1 if side == "left" else -1
    row = sorted(found, key=lambda i: sign * scene.objects[i].centre[0])
    if len(row) < 3 or number >= len(row):
        return ()
    one = row[number]
    before = all(is_related(scene, i, f"{side} of", one) for i in row[:number])
    after = all(is_related(scene, one, f"{side} of", i) for i in row[number + 1 :])
    return (one,) if before and after else ()


def _related(match: re.Match[str], scene: Scene) -> Found:
    subject, relation, other, two, noun = match.groups()
    found = _named(subject, scene)
    anchors = _named(noun, scene)
    if relation == "between":
        return _nth(1, found, "left", scene) if two and len(found) == 3 else ()
    if other:
        is_plural = noun.split()[-1] in _PLURALS
        if is_plural == (len(anchors) < 3) or set(found) != set(anchors):
            return ()
        return tuple(i for i in found if _is_from_all(relation, i, found, scene))
    if relation == "closest to":
        return _closest(found, anchors, scene)
    return tuple(i for i in found if any(_holds(relation, i, j, scene) for j in anchors))


def _is_from_all(relation: str, index: int, others: Found, scene: Scene) -> bool:
    return all(_holds(relation, index, j, scene) for j in others if j != index)


def _holds(relation: str, index: int, anchor: int, scene: Scene) -> bool:
    if relation in RELATIONS:
        return is_related(scene, index, relation, anchor)
    longer = max(scene.width, scene.height)
    return index != anchor and _gap(index, anchor, scene) <= _NEXT_TO * longer


def _closest(found: Found, anchors: Found, scene: Scene) -> Found:
    if len(anchors) != 1 or not found:
        return ()
    gaps = sorted((_gap(i, anchors[0], scene), i) for i in found if i != anchors[0])
    is_clear = len(gaps) == 1 or (gaps and gaps[1][0] > _MUCH_FARTHER * gaps[0][0])
    return (gaps[0][1],) if is_clear else ()


def _gap(index: int, other: int, scene: Scene) -> float:
    """Return the distance between two boxes in pixels; 0 if they touch or overlap."""
    a, b = scene.objects[index].box, scene.objects[other].box
    across = max(a[0], b[0]) - min(a[2], b[2])
    down = max(a[1], b[1]) - min(a[3], b[3])
    return float((max(0.0, across) ** 2 + max(0.0, down) ** 2) ** 0.5)
