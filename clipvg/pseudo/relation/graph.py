"""Scene graphs: decode a model's outputs, choose the best relations, and phrase them.

Arithmetic is in float32 as in the published program, so that scores at a threshold fall on the
same side.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

import numpy as np

from clipvg.errors import InputError
from clipvg.pseudo.observation import Box, Candidate, Observation, Relation
from clipvg.pseudo.plane import clip_box, distinct, overlap
from clipvg.pseudo.relation.wording import say_name, say_object, say_predicate
from clipvg.pseudo.sources import Options

_NAMELESS = frozenset({"n/a", "__background__", ""})
_SAME_BOX = 0.5  # IoU above which two boxes of the same name are taken for one object
_SAME_PLACE = 0.9  # the same for two boxes of any names
_RIVAL_SCORE = 0.1  # half of what a relation needs to become an expression


def read_graph(observation: Observation, options: Options) -> list[Candidate]:
    """Return an expression for each relation that identifies its box, at most the ten best.

    Of relations with the same words and nearly the same box, one is kept. Words that the graph
    gives to two different boxes, even if it is unsure of the second, identify neither; nor does
    "the other dog" identify one of three dogs.
    """
    claims: dict[str, list[Relation]] = defaultdict(list)
    for relation in observation.relations:
        if min(relation.scores) > _RIVAL_SCORE and (expression := phrase(relation)):
            claims[expression].append(relation)
    chosen: list[Candidate] = []
    taken: set[tuple[str, int]] = set()
    least = options.min_score
    usable = [
        relation
        for relation in observation.relations
        if min(relation.scores[0], relation.scores[2]) >= least and phrase(relation)
    ]
    for relation in best_relations(usable):
        expression = phrase(relation)
        box = clip_box(relation.subject_box, observation.width, observation.height)
        if expression is None or box is None:
            continue
        if options.ambiguous == "drop" and _has_several_others(relation, observation.relations):
            continue
        objects = distinct(claims[expression], _is_same)  # one for each subject
        place = next(row for row, each in enumerate(objects) if _is_same(each, relation))
        if (len(objects) == 1 or options.ambiguous == "keep") and (expression, place) not in taken:
            taken.add((expression, place))
            chosen.append(Candidate(expression, box, "graph"))
    return chosen


def phrase(relation: Relation) -> str | None:
    """Return a relation as people write it, or None if it describes nothing.

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


def _is_of_itself(relation: Relation) -> bool:
    is_named_alike = say_name(relation.subject) == say_name(relation.object)
    limit = _SAME_BOX if is_named_alike else _SAME_PLACE
    return overlap(relation.subject_box, relation.object_box) >= limit


def _has_several_others(relation: Relation, relations: Sequence[Relation]) -> bool:
    """Return whether a relation is between two things of a name of which the graph has more."""
    name = say_name(relation.subject)
    if name != say_name(relation.object):
        return False
    boxes = (
        box
        for each in relations
        for other, box in ((each.subject, each.subject_box), (each.object, each.object_box))
        if say_name(other) == name
    )
    return len(distinct(boxes, lambda box, known: overlap(box, known) >= _SAME_BOX)) > 2


def _is_same(first: Relation, second: Relation) -> bool:
    return first is second or overlap(first.subject_box, second.subject_box) >= _SAME_BOX


_LEAST_SCORE = np.float32(0.2)  # of subject, predicate and object, each
_BEST = 10


def best_relations(relations: Iterable[Relation]) -> list[Relation]:
    """Return the ten best relations whose three scores are above 0.2 each, the best first.

    Relations are ranked by the product of their scores; ties keep their order.
    """
    kept = [
        each for each in relations if (np.asarray(each.scores, np.float32) > _LEAST_SCORE).all()
    ]
    scores = np.array([each.scores for each in kept], np.float32).reshape(-1, 3)
    products = scores[:, 0] * scores[:, 1] * scores[:, 2]
    return [kept[row] for row in np.argsort(-products, kind="stable")[:_BEST]]


def relations_from_logits(
    logits: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    *,
    size: tuple[int, int],
    entities: Sequence[str] | None = None,
    predicates: Sequence[str] | None = None,
) -> tuple[Relation, ...]:
    """Decode the outputs of a scene-graph model such as RelTR for an image, one relation per query.

    Args:
        logits: of subjects (Q, E + 1), predicates (Q, P + 1) and objects (Q, E + 1); the last
            column is "no object", which takes part in the softmax and is never the answer.
        boxes: of subjects and objects, (Q, 4) each, cxcywh as shares of the image.
        size: width and height of the image in pixels.
        entities: E names; RelTR's by default.
        predicates: P names; RelTR's by default.

    Raises:
        InputError: there are more or fewer columns than names.
    """
    entities = reltr_names()["entities"] if entities is None else entities
    predicates = reltr_names()["predicates"] if predicates is None else predicates
    best = [
        _best_of(of_role, names)
        for of_role, names in zip(logits, (entities, predicates, entities), strict=True)
    ]
    corners = [_corners(of_role, size) for of_role in boxes]
    rows = zip(*(names for names, _ in best), *corners, strict=True)
    scores = np.stack([scores for _, scores in best], axis=1)
    return tuple(
        Relation(subject, predicate, object_, subject_box, object_box, (own[0], own[1], own[2]))
        for (subject, predicate, object_, subject_box, object_box), own in zip(
            rows, scores.tolist(), strict=True
        )
    )


@cache
def reltr_names() -> dict[str, list[str]]:
    """Return the names of RelTR's "entities" and "predicates", in the order of its outputs."""
    path = files("clipvg.pseudo") / "data" / "reltr.json"
    return json.loads(path.read_text(encoding="utf-8"))


def _best_of(logits: np.ndarray, names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Return the best name of each query and its probability, float32."""
    logits = np.asarray(logits, np.float32)  # (Q, names + 1)
    if logits.shape[1] != len(names) + 1:
        raise InputError(
            f"logits of {logits.shape[1]} columns for {len(names)} names; expected one column a "
            "name and a last one for no object"
        )
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = (powers / powers.sum(axis=1, keepdims=True))[:, :-1]
    return [names[best] for best in shares.argmax(axis=1)], shares.max(axis=1)


def _corners(boxes: np.ndarray, size: tuple[int, int]) -> list[Box]:
    """Convert boxes from cxcywh in shares of the image to xyxy in pixels, not clipped."""
    center_x, center_y, width, height = np.asarray(boxes, np.float32).reshape(-1, 4).T
    half = np.array(0.5, np.float32)
    corners = np.stack(
        [
            center_x - half * width,
            center_y - half * height,
            center_x + half * width,
            center_y + half * height,
        ],
        axis=1,
    )
    return [
        (x1, y1, x2, y2)
        for x1, y1, x2, y2 in (corners * np.array([*size, *size], np.float32)).tolist()
    ]
