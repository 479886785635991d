"""Generate referring expressions and captions for scenes, and find what expressions refer to.

`referents` defines the truth: the objects that an expression could refer to. An expression has a
true box if exactly one object fits. Captions are used to train the bundled CLIP and by the caption
source.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from clipvg.data.scenes.world import COLOURS, SHAPES, Scene, SceneObject

POSITIONS = ("left", "right", "top", "bottom")
RELATIONS = ("left of", "right of", "above", "below")
KINDS = ("attribute", "position", "relation")

_MARGIN = 0.1  # least distance between two centres, of the image's longer side
_SIZE_RATIO = 1.4  # least ratio of the areas of the most extreme object and the next
_PLACES = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)


@dataclass(frozen=True)
class Expression:
    """A structured referring expression; attributes that are None are not mentioned.

    `size` ("big", "small") and `position` ("left", ...) are superlatives among the objects that
    match the rest; `relation` places the object relative to the one that `anchor` describes.
    """

    shape: str
    colour: str | None = None
    texture: str | None = None
    size: str | None = None
    position: str | None = None
    relation: str | None = None
    anchor: Expression | None = None

    @property
    def kind(self) -> str:
        """One of `KINDS`: how the expression distinguishes its object from others."""
        if self.relation:
            return "relation"
        return "position" if self.position else "attribute"


def referents(expression: Expression, scene: Scene) -> tuple[int, ...]:
    """Return indices of the objects that an expression could refer to; empty if none fits."""
    found = [i for i, item in enumerate(scene.objects) if _looks_like(item, expression)]
    if expression.relation and expression.anchor:
        anchors = referents(expression.anchor, scene)
        if len(anchors) != 1:
            return ()
        found = [i for i in found if is_related(scene, i, expression.relation, anchors[0])]
    if expression.size:
        found = extreme(found, [scene.objects[i].area for i in found], expression.size == "big")
    if expression.position:
        found = outermost(scene, found, expression.position)
    return tuple(found)


def describe(scene: Scene, index: int, kind: str, rng: np.random.Generator) -> Expression | None:
    """Return a random expression of `kind` that fits object `index` only, or None."""
    item = scene.objects[index]
    candidates = [
        expression
        for look in _looks(item)
        for expression in _extend(look, kind, scene, index)
        if referents(expression, scene) == (index,)
    ]
    if not candidates:
        return None
    # People write short expressions: prefer few attributes, but keep some variety.
    weights = np.array([0.4 ** _num_attributes(c) for c in candidates])
    return candidates[rng.choice(len(candidates), p=weights / weights.sum())]


def ambiguous(scene: Scene, index: int, kind: str, rng: np.random.Generator) -> Expression | None:
    """Return an expression that fits object `index` and at least one other object, or None.

    A superlative is never ambiguous, so a position expression is made ambiguous by dropping it.
    """
    looks = _looks(scene.objects[index])
    if kind == "relation":
        looks = [e for look in looks for e in _extend(look, kind, scene, index)]
    candidates = [e for e in looks if len(f := referents(e, scene)) > 1 and index in f]
    return candidates[rng.integers(len(candidates))] if candidates else None


def with_wrong_attribute(expression: Expression, rng: np.random.Generator) -> Expression:
    """Replace the colour of an expression, or its shape if it has no colour, by another."""
    if expression.colour:
        others = [c for c in COLOURS if c != expression.colour]
        return replace(expression, colour=str(rng.choice(others)))
    others = [s for s in SHAPES if s != expression.shape]
    return replace(expression, shape=str(rng.choice(others)))


def to_text(expression: Expression, rng: np.random.Generator) -> str:
    """Return the expression in words, in one of a few phrasings."""
    text = _words(expression, rng)
    return f"the {text}" if rng.random() < 0.3 else text


def _words(expression: Expression, rng: np.random.Generator) -> str:
    words = (expression.size, expression.texture, expression.colour, expression.shape)
    noun = " ".join(word for word in words if word)
    position = expression.position
    if position:
        place = f"on the {position}" if position in ("left", "right") else f"at the {position}"
        noun = str(rng.choice([f"{position} {noun}", f"{noun} {place}", f"{noun} {place}"]))
    if expression.relation and expression.anchor:
        relation = expression.relation
        if relation.endswith(" of") and rng.random() < 0.5:
            relation = f"to the {relation}"
        noun = f"{noun} {relation} the {_words(expression.anchor, rng)}"
    return noun


def _looks_like(item: SceneObject, expression: Expression) -> bool:
    return (
        item.shape == expression.shape
        and expression.colour in (None, item.colour)
        and expression.texture in (None, item.texture)
    )


def _looks(item: SceneObject) -> list[Expression]:
    """Return an expression for each combination of colour and texture, mentioned or omitted."""
    textures = (None,) if item.texture == "plain" else (None, item.texture)
    return [
        Expression(item.shape, colour, texture)
        for colour in (None, item.colour)
        for texture in textures
    ]


def _extend(look: Expression, kind: str, scene: Scene, index: int) -> list[Expression]:
    if kind == "attribute":
        return [look, replace(look, size="big"), replace(look, size="small")]
    if kind == "position":
        return [replace(look, position=position) for position in POSITIONS]
    anchors = [
        anchor
        for other, item in enumerate(scene.objects)
        if other != index
        for anchor in _looks(item)
    ]
    return [replace(look, relation=r, anchor=a) for r in RELATIONS for a in anchors]


def _num_attributes(expression: Expression) -> int:
    said = sum(v is not None for v in (expression.colour, expression.texture, expression.size))
    return said + (_num_attributes(expression.anchor) if expression.anchor else 0)


def extreme(indices: list[int], values: list[float], largest: bool) -> list[int]:
    """Return the index with the clearly largest or smallest value of at least two, else none."""
    if len(indices) < 2:
        return []
    order = np.argsort(values)[:: -1 if largest else 1]
    first, second = values[order[0]], values[order[1]]
    clear = max(first, second) >= _SIZE_RATIO * min(first, second)
    return [indices[order[0]]] if clear else []


def outermost(scene: Scene, indices: list[int], position: str) -> list[int]:
    """Return the index of the object clearly farthest to one side of at least two, else none."""
    if len(indices) < 2:
        return []
    axis = 0 if position in ("left", "right") else 1
    sign = 1 if position in ("left", "top") else -1
    values = [sign * scene.objects[i].centre[axis] for i in indices]
    order = np.argsort(values)
    margin = _MARGIN * max(scene.width, scene.height)
    return [indices[order[0]]] if values[order[1]] - values[order[0]] >= margin else []


def is_related(scene: Scene, index: int, relation: str, anchor: int) -> bool:
    """Return whether object `index` is clearly `relation` object `anchor`, by their centres."""
    if index == anchor:
        return False
    x, y = scene.objects[index].centre
    ax, ay = scene.objects[anchor].centre
    distance = {"left of": ax - x, "right of": x - ax, "above": ay - y, "below": y - ay}[relation]
    return distance >= _MARGIN * max(scene.width, scene.height)


def place(scene: Scene, item: SceneObject) -> str:
    """Return the name of the cell in a 3 x 3 grid that contains the object's centre."""
    x, y = item.centre
    row = min(2, int(3 * y / scene.height))
    column = min(2, int(3 * x / scene.width))
    return _PLACES[row][column]


def size_word(scene: Scene, item: SceneObject) -> str:
    """Return small, medium or big, by the root of the object's area relative to the longer side."""
    side = item.area**0.5 / max(scene.width, scene.height)
    return "small" if side < 0.3 else "big" if side > 0.39 else "medium"


def phrase(scene: Scene, item: SceneObject, rng: np.random.Generator) -> str:
    """Return a phrase for the object with some of its attributes and, usually, its place."""
    words = []
    if rng.random() < 0.4:
        words.append(size_word(scene, item))
    if rng.random() < 0.5:
        words.append(item.texture)
    if rng.random() < 0.9:
        words.append(item.colour)
    text = "a " + " ".join([*words, item.shape])
    if rng.random() < 0.6:
        where = place(scene, item)
        link = "in the" if " " in where or where == "center" else "at the"
        text += f" {'on the' if where in ('left', 'right') else link} {where}"
    return text


def caption(scene: Scene, rng: np.random.Generator, max_objects: int = 3) -> str:
    """Return a caption about up to `max_objects` objects, sometimes with a relation."""
    order = rng.permutation(len(scene.objects))[: int(rng.integers(1, max_objects + 1))]
    if len(order) > 1 and rng.random() < 0.35:
        first, second = int(order[0]), int(order[1])
        true = [r for r in RELATIONS if is_related(scene, first, r, second)]
        if true:
            relation = str(rng.choice(true))
            subject = _short(scene.objects[first], rng)
            link = f"to the {relation}" if relation.endswith(" of") else relation
            return f"{subject} {link} {_short(scene.objects[second], rng)}"
    return " and ".join(phrase(scene, scene.objects[i], rng) for i in order)


def _short(item: SceneObject, rng: np.random.Generator) -> str:
    texture = f"{item.texture} " if rng.random() < 0.3 else ""
    return f"a {texture}{item.colour} {item.shape}"
