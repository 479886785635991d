"""Where boxes of one class stand, by the published rules."""

from __future__ import annotations

from clipvg.pseudo.observation import Box
from clipvg.pseudo.plane import area, centre

LEAST_SPREAD = 50  # pixels between the outermost centres
SMALL, LARGE = 0.4, 0.8  # area against the largest of the class


def published_places(boxes: list[Box], width: int, height: int) -> list[list[str]]:
    """Return the words for each of at least two boxes: left …, then top …, then front …."""
    words: list[list[str]] = [[] for _ in boxes]
    centres = [centre(box) for box in boxes]
    _add_horizontal(words, [x for x, _ in centres], width)
    _add_vertical(words, [y for _, y in centres], width, height)
    _add_depth(words, [area(box) for box in boxes])
    return words


def _ends(values: list[float]) -> tuple[int, int]:
    return values.index(min(values)), values.index(max(values))


def _add_horizontal(words: list[list[str]], middles: list[float], width: int) -> None:
    first, last = _ends(middles)
    if middles[last] - middles[first] <= LEAST_SPREAD:
        return
    words[first].append("left")
    words[last].append("right")
    for i, x in enumerate(middles):
        if i in (first, last):
            continue
        if len(middles) > 3 and x > width * 3 / 4:
            words[i].append("right")
        elif len(middles) > 3 and x < width / 4:
            words[i].append("left")
        else:
            words[i] += ["middle", "center"]


def _add_vertical(words: list[list[str]], middles: list[float], width: int, height: int) -> None:
    first, last = _ends(middles)
    if middles[last] - middles[first] <= LEAST_SPREAD:
        return
    words[last].append("bottom")
    words[first].append("top")
    for i, y in enumerate(middles):
        if i in (first, last):
            continue
        if y > height * 3 / 4:
            words[i].append("bottom")
        elif y < width / 4:  # as published: the width, not the height
            words[i].append("top")


def _add_depth(words: list[list[str]], areas: list[float]) -> None:
    smallest, largest = _ends(areas)
    if areas[smallest] / areas[largest] >= SMALL:
        return
    words[smallest].append("behind")
    words[largest].append("front")
    if len(areas) <= 3:
        return
    for i, size in enumerate(areas):
        if i in (smallest, largest):
            continue
        if size / areas[largest] < SMALL:
            words[i].append("behind")
        elif size / areas[largest] > LARGE:
            words[i].append("front")
