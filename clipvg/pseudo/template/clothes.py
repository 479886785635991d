"""What people wear and carry."""

from __future__ import annotations

from clipvg.pseudo.plane import area, shared_area
from clipvg.pseudo.template.names import with_article
from clipvg.pseudo.template.scene import Scene, Thing

LEAST_INSIDE = 0.75  # share of a garment inside its person, as published
HAT_ABOVE, LOW_BELOW = 0.7, 0.5  # of a person's height, from the feet
_ON_THE_HEAD = frozenset(
    "beanie cap headband visor hat goggles helmet sunglasses glasses bandana".split()
)
_ON_THE_LEGS = frozenset(
    "pant short slacks sweatpants overalls jean belt skirt pants tights jeans shorts shoes boots "
    "cleats sandals socks sandal sneaker boot sneakers shoe".split()
)
# Of the published lists, what nobody is described by: parts of clothes, cloth, small things.
_NOT_SAID = frozenset(
    "sleeve waist pocket fur wool blanket bags pant short jean shoe boot sandal sneaker belt "
    "socks".split()
)
# What everybody wears says something only with a word before it.
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
        if garment.group != "clothes" or garment.name in _NOT_SAID:
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
