"""Expressions from a scene graph, phrased as people write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from clipvg.pseudo.observation import Box, Candidate, Observation, Relation
from clipvg.pseudo.options import Options
from clipvg.pseudo.plane import clip_box, overlap
from clipvg.pseudo.relation.published import best_relations
from clipvg.pseudo.relation.wording import say_name, say_object, say_predicate

_NAMELESS = frozenset({"n/a", "__background__", ""})
_SAME_BOX = 0.5  # IoU above which two boxes of the same name are taken for one object
_SAME_PLACE = 0.9  # IoU above which two boxes of any names are
_RIVAL_SCORE = 0.1  # half of what a relation needs to become an expression


def read_graph(observation: Observation, options: Options) -> list[Candidate]:
    """Return an expression of each relation that says which box is meant, the best ten at most.

    Of relations with the same words and nearly the same box one stays. Words that the graph gives
    to two different boxes, though it may be unsure of the second, fit neither alone; nor does "the
    other dog" fit one of three dogs.
    """
    claims: dict[str, list[Relation]] = defaultdict(list)
    for relation in observation.relations:
        if min(relation.scores) > _RIVAL_SCORE and (expression := phrase(relation)):
            claims[expression].append(relation)
    chosen: list[Candidate] = []
    taken: set[tuple[str, int]] = set()
    for relation in best_relations(_usable(observation.relations, options.min_score)):
        expression = phrase(relation)
        box = clip_box(relation.subject_box, observation.width, observation.height)
        if expression is None or box is None:
            continue
        if options.ambiguous == "drop" and _has_several_others(relation, observation.relations):
            continue
        objects = _distinct(claims[expression])
        place = next(row for row, each in enumerate(objects) if _is_same(each, relation))
        if (len(objects) == 1 or options.ambiguous == "keep") and (expression, place) not in taken:
            taken.add((expression, place))
            chosen.append(Candidate(expression, box, "graph"))
    return chosen


def phrase(relation: Relation) -> str | None:
    """Return a relation as people write it, None where it is no expression of anything.

    Example:
        >>> phrase(Relation("man", "wears", "hat", (0, 0, 9, 20), (2, 0, 6, 4)))
        'man wearing a hat'
    """
    if _NAMELESS & {relation.subject.lower(), relation.predicate.lower(), relation.object.lower()}:
        return None
    predicate = say_predicate(relation.predicate)
    if predicate is None or _is_of_itself(relation):
        return None
    subject, object_ = say_name(relation.subject), say_name(relation.object)
    if subject == object_:
        return f"{subject} {predicate} the other {object_}"
    return f"{subject} {predicate} {say_object(predicate, object_)}"


def _usable(relations: Sequence[Relation], min_score: float) -> list[Relation]:
    return [
        relation
        for relation in relations
        if min(relation.scores[0], relation.scores[2]) >= min_score and phrase(relation)
    ]


def _is_of_itself(relation: Relation) -> bool:
    is_named_alike = say_name(relation.subject) == say_name(relation.object)
    limit = _SAME_BOX if is_named_alike else _SAME_PLACE
    return overlap(relation.subject_box, relation.object_box) >= limit


def _has_several_others(relation: Relation, relations: Sequence[Relation]) -> bool:
    """Whether a relation is between two things of a name of which the graph has more."""
    name = say_name(relation.subject)
    if name != say_name(relation.object):
        return False
    kept: list[Box] = []
    for each in relations:
        for other, box in ((each.subject, each.subject_box), (each.object, each.object_box)):
            is_new = all(overlap(box, known) < _SAME_BOX for known in kept)
            if is_new and say_name(other) == name:
                kept.append(box)
    return len(kept) > 2


def _distinct(relations: Sequence[Relation]) -> list[Relation]:
    """One relation for each subject that relations speak of."""
    objects: list[Relation] = []
    for relation in relations:
        if not any(_is_same(each, relation) for each in objects):
            objects.append(relation)
    return objects


def _is_same(first: Relation, second: Relation) -> bool:
    return first is second or overlap(first.subject_box, second.subject_box) >= _SAME_BOX
