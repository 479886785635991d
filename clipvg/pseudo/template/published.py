"""Template expressions by the published rules (Pseudo-Q), to the letter.

Every expression of the chosen objects is made, in the published order and with repeats; the draw
comes later. Thresholds are strict where the published program is strict.
"""

from __future__ import annotations

from collections.abc import Iterator

from clipvg.errors import InputError
from clipvg.pseudo.observation import Box, Candidate, Observation
from clipvg.pseudo.plane import area, centre, overlap, shared_area
from clipvg.pseudo.sources import Options
from clipvg.pseudo.template.kept import (
    GROUPS,
    Groups,
    Kept,
    by_class,
    keep_published,
    without_doubles,
    without_zeros,
)
from clipvg.pseudo.template.names import GARMENT_KINDS, attribute_columns, garments, group_of

LEAST_PROBABILITY = 0.3  # of an attribute
SAME_BOX = 0.5  # IoU of a detection and an attribute detection
LEAST_INSIDE = 0.75  # share of a garment inside a person
HAT_ABOVE, PANTS_BELOW = 0.75, 0.5  # of a person's height, from the feet
PREPOSITIONS = {
    "left": "on the left", "right": "on the right", "front": "in the front",
    "behind": "in the behind", "middle": "in the middle", "center": "in the center",
}  # fmt: skip

Expression = tuple[str, str]  # the words and the rule


def published(observation: Observation, options: Options) -> list[Candidate]:
    """Return all expressions of the chosen objects of an image, by the published rules.

    Raises:
        InputError: the published program crashes on this image (a garment without area).
    """
    kept = keep_published(observation)
    words = _attributes(kept, observation)
    people, things = kept["people"], kept["things"]
    # The published program looks at the garments of every person, described or not.
    clothes = {one.index: _garments_of(one, kept["clothes"], observation) for one in people}
    places = _places(people, things, observation)
    candidates = []
    for one in _choose(people, things, options.objects):
        name = _named(one, words)
        worn = [_named(garment, words) for garment in clothes.get(one.index, [])]
        candidates += [
            Candidate(text, one.found.box, rule, one.index)
            for text, rule in _expressions(name, places.get(one.index, []), worn)
        ]
    return candidates


def _attributes(kept: Groups, observation: Observation) -> dict[int, str]:
    """Return the attribute of each detection that has one, the last of several."""
    if not observation.attribute_detections:
        return {}
    described = _described(observation)
    words = {}
    for group in GROUPS:
        for one in kept[group]:
            for other in described[group]:
                same = other.name == one.name and overlap(one.found.box, other.found.box) > SAME_BOX
                if same and other.word is not None:
                    words[one.index] = other.word
    return words


def _described(observation: Observation) -> Groups:
    """Return the attribute detections to use, by group; those without a word remove others too."""
    groups: Groups = {group: [] for group in GROUPS}
    for index, found in enumerate(observation.attribute_detections):
        valid = without_zeros(found)
        if valid is None:
            continue
        word = _likeliest(found.attributes)
        name = found.name.replace(f"{word} ", "") if word and word in found.name else found.name
        groups[group_of(name)].append(Kept(index, valid, name, word))
    return {group: by_class(without_doubles(kept)) for group, kept in groups.items()}


def _likeliest(attributes: dict[str, float]) -> str | None:
    """Return the likeliest word of the vocabulary; of equals the one in the lower column."""
    best: tuple[float, int] | None = None
    word = None
    columns = attribute_columns()
    for name, probability in attributes.items():
        if name in columns and probability > LEAST_PROBABILITY:
            column, first = columns[name]
            if best is None or (probability, -column) > best:
                best, word = (probability, -column), first
    return word


def _garments_of(person: Kept, clothes: list[Kept], observation: Observation) -> list[Kept]:
    """Return the garments inside a person: hats, shirts, pants, shoes."""
    worn: dict[str, list[Kept]] = {kind: [] for kind in GARMENT_KINDS}
    for garment in clothes:
        kind = garments()[garment.name]
        if _is_worn(garment, kind, person, observation):
            worn[kind].append(garment)
    return [garment for kind in GARMENT_KINDS for garment in worn[kind]]


def _is_worn(garment: Kept, kind: str, person: Kept, observation: Observation) -> bool:
    size = area(garment.found.box)
    if size == 0:
        raise InputError(
            f"{observation.image}: detection {garment.index} ({garment.name}) has no area, where "
            "the published program crashes; remove it, or use the default preset"
        )
    if shared_area(garment.found.box, person.found.box) / size <= LEAST_INSIDE:
        return False
    _, top, _, bottom = person.found.box
    height = (bottom - centre(garment.found.box)[1]) / (bottom - top)
    if kind == "hat":
        return height > HAT_ABOVE
    return kind != "pants" or height < PANTS_BELOW


def _places(
    people: list[Kept], things: list[Kept], observation: Observation
) -> dict[int, list[str]]:
    classes: dict[str, list[Kept]] = {}
    for one in [*people, *things]:
        classes.setdefault(one.name, []).append(one)
    places: dict[int, list[str]] = {}
    for members in classes.values():
        if len(members) > 1:
            boxes = [one.found.box for one in members]
            words = published_places(boxes, observation.width or 0, observation.height or 0)
            places |= {one.index: found for one, found in zip(members, words, strict=True)}
    return places


def _choose(people: list[Kept], things: list[Kept], count: int) -> list[Kept]:
    """Return all people and the best things, or the best people if there are too many."""
    if len(people) > count:
        return _best(people, count)
    return people + _best(things, count - len(people))


def _best(kept: list[Kept], count: int) -> list[Kept]:
    """Return the best scored in their order; of equals at the cut, the earlier ones are dropped."""
    ranked = sorted(range(len(kept)), key=lambda i: kept[i].found.score)
    chosen = set(ranked[max(0, len(kept) - count) :])
    return [one for i, one in enumerate(kept) if i in chosen]


def _named(one: Kept, words: dict[int, str]) -> str:
    word = words.get(one.index)
    return f"{word} {one.name}" if word else one.name


def _expressions(name: str, places: list[str], worn: list[str]) -> Iterator[Expression]:
    yield name, "name"
    for place in places:
        yield f"{name} {place}", "name place"
        if place in PREPOSITIONS:
            yield f"{name} {PREPOSITIONS[place]}", "name in place"
        yield f"{place} {name}", "place name"
    for garment in worn:
        yield f"{name} {garment}", "name garment"
        yield f"{garment} {name}", "garment name"
    for place in places:
        for garment in worn:
            yield from _all_three(name, place, garment)


def _all_three(name: str, place: str, garment: str) -> Iterator[Expression]:
    yield f"{name} {garment} {place}", "name garment place"
    yield f"{name} {place} {garment}", "name place garment"
    yield f"{garment} {name} {place}", "garment name place"
    yield f"{garment} {place} {name}", "garment place name"
    yield f"{place} {name} {garment}", "place name garment"
    yield f"{place} {garment} {name}", "place garment name"
    if place in PREPOSITIONS:
        phrase = PREPOSITIONS[place]
        yield f"{name} {garment} {phrase}", "name garment in place"
        yield f"{name} {phrase} {garment}", "name in place garment"
        yield f"{garment} {name} {phrase}", "garment name in place"


LEAST_SPREAD = 50  # pixels between the outermost centres
SMALL, LARGE = 0.4, 0.8  # area relative to the largest of the class


def published_places(boxes: list[Box], width: int, height: int) -> list[list[str]]:
    """Return place words for each of at least two boxes: sideways, then vertical, then depth."""
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
