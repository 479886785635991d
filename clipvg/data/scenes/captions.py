"""Captions of scenes: what the shipped CLIP is trained on and the caption source says."""

from __future__ import annotations

import numpy as np

from clipvg.data.scenes.language import RELATIONS, is_related
from clipvg.data.scenes.world import Scene, SceneObject

_PLACES = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)


def place(scene: Scene, item: SceneObject) -> str:
    """The third of the image, by row and column, that holds the object's centre."""
    x, y = item.centre
    row = min(2, int(3 * y / scene.height))
    column = min(2, int(3 * x / scene.width))
    return _PLACES[row][column]


def size_word(scene: Scene, item: SceneObject) -> str:
    """Small, medium or big by the object's mean side as a share of the longer side."""
    side = item.area**0.5 / max(scene.width, scene.height)
    return "small" if side < 0.3 else "big" if side > 0.39 else "medium"


def phrase(scene: Scene, item: SceneObject, rng: np.random.Generator) -> str:
    """The object with some of its attributes and, mostly, its place."""
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
    """One sentence about up to `max_objects` objects, now and then with a relation."""
    order = rng.permutation(len(scene.objects))[: int(rng.integers(1, max_objects + 1))]
    if len(order) > 1 and rng.random() < 0.35:
        first, second = int(order[0]), int(order[1])
        true = [r for r in RELATIONS if is_related(scene, first, r, second)]
        if true:
            relation = str(rng.choice(true))
            return " ".join(
                [
                    _short(scene.objects[first], rng),
                    f"to the {relation}" if relation.endswith(" of") else relation,
                    _short(scene.objects[second], rng),
                ]
            )
    return " and ".join(phrase(scene, scene.objects[i], rng) for i in order)


def _short(item: SceneObject, rng: np.random.Generator) -> str:
    texture = f"{item.texture} " if rng.random() < 0.3 else ""
    return f"a {texture}{item.colour} {item.shape}"
