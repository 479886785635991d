"""Relations of an image as the published generator takes them from RelTR's outputs.

All arithmetic is in float32, like the program's, so that scores on a threshold fall on its side.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

import numpy as np

from clipvg.errors import InputError
from clipvg.pseudo.observation import Box, Relation

_LEAST_SCORE = np.float32(0.2)  # of subject, predicate and object, each
_BEST = 10


def best_relations(relations: Iterable[Relation]) -> list[Relation]:
    """Return the ten best relations whose three scores are above 0.2 each, the best first.

    Relations are ranked by the product of their scores; equal ones keep their order.
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
    """Return what a scene-graph model such as RelTR says of an image, one relation a query.

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
    """Best name of each query and its probability, float32."""
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
    """Boxes cxcywh in shares as xyxy in pixels, not clipped."""
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
