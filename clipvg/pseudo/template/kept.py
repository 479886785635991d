"""Published filters of the detections to describe, for the template and caption sources alike.

Their quirks are included: a coordinate that is exactly 0 becomes 1, and a box that another one
removed still removes others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from clipvg.pseudo.observation import Detection, Observation
from clipvg.pseudo.plane import area, overlap
from clipvg.pseudo.template.names import group_of

GROUPS = ("people", "clothes", "things")
SMALLEST_SHARE = 1 / 64  # of the image's area, for people and things
SAME_OBJECT = 0.4  # IoU above which two detections are one object

Groups = dict[str, list["Kept"]]


@dataclass(frozen=True)
class Kept:
    """A detection that passes the filters."""

    index: int  # index among the detections of its image
    found: Detection  # the detection, its box as changed by the published program
    name: str  # its class, without the attribute word that the attribute branch cuts out
    word: str | None = None  # its attribute, or None


def keep_published(observation: Observation) -> Groups:
    """Return the detections of an image that pass the filters, by group and, in it, by class.

    Classes, and the detections of a class, come in order of first appearance.
    """
    sides = observation.width, observation.height
    if sides[0] is None or sides[1] is None:
        raise ValueError(f"{observation.image}: its size is not known")
    smallest = sides[0] * sides[1] * SMALLEST_SHARE
    groups: Groups = {name: [] for name in GROUPS}
    for index, found in enumerate(observation.detections):
        valid = without_zeros(found)
        group = group_of(found.name)
        if valid and (group == "clothes" or area(valid.box) >= smallest):
            groups[group].append(Kept(index, valid, found.name))
    return {name: by_class(without_doubles(kept)) for name, kept in groups.items()}


def without_zeros(found: Detection) -> Detection | None:
    """Return a detection whose box starts at 1 where it started at 0; None if it is reversed."""
    x1, y1, x2, y2 = found.box
    if x1 == 0 or y1 == 0:
        x1, y1 = x1 or 1.0, y1 or 1.0
        found = replace(found, box=(x1, y1, x2, y2))
    return None if x1 > x2 or y1 > y2 else found


def without_doubles(kept: list[Kept]) -> list[Kept]:
    """Drop the lower-scored detection of every overlapping pair, or the later one of equals."""
    removed = set()
    for i, one in enumerate(kept):
        for j in range(i + 1, len(kept)):
            other = kept[j]
            if overlap(one.found.box, other.found.box) > SAME_OBJECT:
                removed.add(i if one.found.score < other.found.score else j)
    return [one for i, one in enumerate(kept) if i not in removed]


def by_class(kept: list[Kept]) -> list[Kept]:
    """Return the same detections, those of one class together."""
    classes = [*dict.fromkeys(one.name for one in kept)]
    return sorted(kept, key=lambda one: classes.index(one.name))
