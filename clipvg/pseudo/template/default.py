"""Template expressions as people write them, each of which fits only one box of its image.

They follow the published idea (class, attribute, place, clothes) without its faults, and add
orders, sizes, counts and landmarks.
"""

from __future__ import annotations

from collections.abc import Iterator

from clipvg.pseudo.observation import Candidate, Observation
from clipvg.pseudo.plane import area, shared_area
from clipvg.pseudo.sources import Options
from clipvg.pseudo.template.kept import SMALLEST_SHARE
from clipvg.pseudo.template.names import is_several, with_article
from clipvg.pseudo.template.ranks import beside, landmarks, patterns
from clipvg.pseudo.template.scene import Scene, Thing, build_scene

# Attributes of the published detector that people do not say before or after a noun.
_NOT_SAID = frozenset(
    "up down off above back made wearing covering holding looking power number letter bunch herd "
    "pile stack roll slice written cast whole half still alone public serving stripes covered "
    "extended raised daytime night horizontal overhead distant side_view in_air for_sale "
    "taking_off".split()
)
_BEFORE = frozenset("parking smiling sleeping rolling serving racing cooking".split())

_SAID_OF_LOOKS = ("place", "superlative", "ordinal")

Expression = tuple[str, str]  # the words and the rule


def default(observation: Observation, options: Options) -> list[Candidate]:
    """Return all expressions of the best objects of an image that fit only one object each."""
    scene = build_scene(observation, options.min_score)
    worn = outfits(scene)
    marks = landmarks(scene)
    owners: dict[str, set[int]] = {}
    found = []
    for one in _describable(scene, options.objects):
        for text, rule in _expressions(one, scene, worn, marks, options):
            owners.setdefault(text, set()).add(one.index)
            found.append(Candidate(text, one.box, rule, one.index))
    keeps_all = options.ambiguous == "keep"
    fitting = [one for one in found if keeps_all or len(owners[one.expression]) == 1]
    return list({(one.expression, one.detection): one for one in fitting}.values())


def _describable(scene: Scene, count: int) -> list[Thing]:
    """Return the best scored objects that are large enough, in the order of their detections."""
    smallest = SMALLEST_SHARE * scene.width * scene.height
    chosen = [one for one in scene.things if not one.is_faint and one.area >= smallest][:count]
    return sorted(chosen, key=lambda one: one.index)


def _expressions(
    one: Thing, scene: Scene, worn: dict[Thing, list[Thing]], marks: list[Thing], options: Options
) -> Iterator[Expression]:
    rivals = scene.rivals(one)
    keeps_all = options.ambiguous == "keep"
    if len(rivals) == 1 or keeps_all:
        yield one.name, "name"
    ranks = [] if is_several(one.name) else list(patterns(one, rivals, scene))
    for pattern, rule in ranks:
        yield pattern.format(n=one.name), rule
    word = said_word(one)
    if word:
        described = _describe(one.name, word)
        same = [other for other in rivals if other is one or _may_be(other, word)]
        if len(same) == 1 or keeps_all:
            yield described, "attribute"
        places = patterns(one, same, scene) if ranks and len(same) > 1 else ranks
        for pattern, rule in places:
            # "left red dog" of two red dogs, but "red dog on the left" if there is only one.
            fits = pattern.startswith("{n}") or (len(same) > 1 and described.endswith(one.name))
            if fits and rule in _SAID_OF_LOOKS:
                yield pattern.format(n=described), f"attribute {rule}"
    yield from _clothed(one, rivals, worn, keeps_all=keeps_all)
    if not is_several(one.name):
        for mark in beside(one, rivals, marks):
            yield f"{one.name} next to the {mark}", "landmark"


def said_word(one: Thing) -> str | None:
    """Return the likeliest attribute that people say with a name, or None if there is none."""
    for word in one.words:
        in_name = any(part in one.name for part in word.split())
        if word.replace(" ", "_") not in _NOT_SAID and not in_name:
            return word
    return None


def _describe(name: str, word: str) -> str:
    is_doing = word.split()[0].endswith("ing") and word not in _BEFORE
    return f"{name} {word}" if is_doing else f"{word} {name}"


def _may_be(other: Thing, word: str) -> bool:
    """Return whether an object may have an attribute: it does, or none of its own are known."""
    return not other.words or word in other.words


def _clothed(
    one: Thing, rivals: list[Thing], worn: dict[Thing, list[Thing]], *, keeps_all: bool
) -> Iterator[Expression]:
    if is_several(one.name):
        return
    for garment in worn.get(one, []):
        if garment.is_faint:
            continue
        others = [item for other in rivals if other is not one for item in worn.get(other, [])]
        alike = [item for item in others if item.name == garment.name]
        if (not alike and garment.name not in EVERYDAY) or keeps_all:
            yield f"{one.name} {worn_phrase(garment, None)}", "clothes"
        word = said_word(garment)
        if word and (keeps_all or not any(_may_be(item, word) for item in alike)):
            yield f"{one.name} {worn_phrase(garment, word)}", "clothes"


LEAST_INSIDE = 0.75  # share of a garment inside its person, as published
HAT_ABOVE, LOW_BELOW = 0.7, 0.5  # of a person's height, from the feet
_ON_THE_HEAD = frozenset(
    "beanie cap headband visor hat goggles helmet sunglasses glasses bandana".split()
)
_ON_THE_LEGS = frozenset(
    "pant short slacks sweatpants overalls jean belt skirt pants tights jeans shorts shoes boots "
    "cleats sandals socks sandal sneaker boot sneakers shoe".split()
)
# Entries of the published lists that describe nobody: parts of clothes, cloth, small things.
_NO_GARMENTS = frozenset(
    "sleeve waist pocket fur wool blanket bags pant short jean shoe boot sandal sneaker belt "
    "socks".split()
)
# Clothes that everybody wears tell people apart only with an attribute.
EVERYDAY = frozenset("shirt pants shoes outfit".split())
_CARRIED = frozenset(
    "bag backpack handbag necklace tie necktie glasses goggles sunglasses scarf hat cap beanie "
    "helmet visor headband bandana".split()
)


def outfits(scene: Scene) -> dict[Thing, list[Thing]]:
    """Return the garments of each person; one that may belong to two people belongs to none."""
    people = [one for one in scene.things if one.group == "people"]
    worn: dict[Thing, list[Thing]] = {}
    for garment in scene.things:
        if garment.group != "clothes" or garment.name in _NO_GARMENTS:
            continue
        owners = [person for person in people if _fits(garment, person)]
        if len(owners) == 1:
            worn.setdefault(owners[0], []).append(garment)
    return worn


def _fits(garment: Thing, person: Thing) -> bool:
    size = area(garment.box)
    if not size or shared_area(garment.box, person.box) <= LEAST_INSIDE * size:
        return False
    _, top, _, bottom = person.box
    height = (bottom - garment.y) / (bottom - top)
    if garment.name in _ON_THE_HEAD:
        return height > HAT_ABOVE
    return garment.name not in _ON_THE_LEGS or height < LOW_BELOW


def worn_phrase(garment: Thing, word: str | None) -> str:
    """Return "in a red shirt" or "with a backpack"."""
    phrase = with_article(f"{word} {garment.name}" if word else garment.name)
    return f"with {phrase}" if garment.name in _CARRIED else f"in {phrase}"
