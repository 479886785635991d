"""Place expressions that have no boxes on observed boxes, with matchers learned from both."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import torch

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.labels.schema import RELIABILITY
from clipvg.measures.match.measures import RegionTextMatch
from clipvg.measures.unique import Unique
from clipvg.pseudo.meaning import look_at
from clipvg.pseudo.observations import ObservationTable
from clipvg.pseudo.plane import clip_box
from clipvg.reliability.image_measure import observe
from clipvg.reliability.measurer import Context

SOURCE = "matched"
_MOST = 32  # objects per image
_UNKNOWN = 0.5  # probability that words fit if the observations say nothing about them


def place_expressions(
    expressions: LabelTable,
    observations: ObservationTable,
    matcher: RegionTextMatch,
    *,
    min_score: float = 0.0,
    context: Context | None = None,
) -> LabelTable:
    """Return labels that place each expression on the observed box that it matches best.

    Every observed object of an image is a candidate for every expression of the image. A pair is
    weighted by the probability that the words fit this object and no other (`Unique`), as far as
    the observations know the words. Matchers (`RegionTextMatch`) learn from all pairs at once what
    right ones have in common: in each later round a pair is also weighted by how much better it
    matched than the image's other boxes in earlier rounds. The images are split into folds, each
    scored by matchers trained on the others. The label gets the box with the largest product of
    both.

    This is multiple-instance learning from images and expressions alone, as in InfoGround (Gupta et
    al., ECCV 2020) and RefCLIP (Jin et al., CVPR 2023), by re-estimation instead of a contrastive
    loss.

    Args:
        expressions: images and expressions; their boxes are ignored.
        observations: observations of these images, and perhaps of others.
        matcher: sets which frozen towers encode boxes and words, and how matchers are trained; its
            epochs are passes over the expressions.
        min_score: lowest probability that a candidate object exists.
        context: settings of the pass over the images.

    Returns:
        Labels in the order of the expressions, with source "matched", ``reliability.matched`` in
        [0, 1], and the sizes of the images where they are known. Rows whose image shows no object,
        or cannot be read, are left out with a warning.

    Raises:
        InputError: no object was observed in any readable image, or there is too little to learn
            from.
    """
    objects = _objects(expressions, observations, min_score)
    context = context or Context()
    (seen,), unreadable = observe([matcher], objects, context)
    readable = [row for row in range(len(objects)) if row not in unreadable]
    if not readable:
        why = next(iter(unreadable.values()))
        raise InputError(f"none of the images with objects can be read: {why}")
    objects, seen = objects.select(readable), seen[readable]
    asked, box = _pairs(expressions, objects)
    texts = np.asarray(expressions.expressions, dtype=object)[asked]
    pairs = objects.select(box).with_column("expression", texts.tolist())
    fits = np.nan_to_num(Unique(observations).measure(pairs, context).values, nan=_UNKNOWN)
    epochs = max(1, round(matcher.epochs * len(expressions) / len(pairs)))
    matcher = replace(matcher, epochs=epochs)
    inputs = matcher.pairs(seen, box, texts.astype(str))
    image = expressions.distinct_images()[1][asked]
    found = matcher.judge(inputs, asked, torch.from_numpy(image % matcher.folds), fits)
    if found.reasons:
        why = next(iter(found.reasons.values()))
        raise InputError(f"{why}; pass more images with expressions")
    scores = found.values * fits
    best = _best(asked, scores)
    return pairs.select(best).with_column(RELIABILITY + SOURCE, scores[best])


def _objects(
    expressions: LabelTable, observations: ObservationTable, min_score: float
) -> LabelTable:
    """Return a table with a row for each object of the expressions' images."""
    names = set(expressions.image_names)
    found = [
        (seen, one.seen[0].name, box)
        for seen in observations
        if seen.image in names
        for one in look_at(seen)[:_MOST]
        if one.exists >= min_score and (box := clip_box(one.box, seen.width, seen.height))
    ]
    if not found:
        raise InputError(
            f"none of the {len(observations):,} observed images is one of the {len(names):,} with "
            f"expressions, such as {min(names, default='')!r}, and shows an object; check the "
            "images' names"
        )
    return LabelTable.from_columns(
        images=expressions.images,
        image=[seen.image for seen, _, _ in found],
        expression=[name for _, name, _ in found],
        box=np.array([box for _, _, box in found]),
        source=SOURCE,
        width=[seen.width for seen, _, _ in found],
        height=[seen.height for seen, _, _ in found],
    )


def _pairs(expressions: LabelTable, objects: LabelTable) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of an expression and an object of its image: rows of both, (P,) each."""
    names, image_of = expressions.distinct_images()
    shown: dict[str, list[int]] = {name: [] for name in names}
    for row, name in enumerate(objects.image_names):
        shown[name].append(row)
    if left_out := [name for name in expressions.image_names if not shown[name]]:
        warnings.warn(
            f"{len(left_out):,} of {len(expressions):,} expressions are left out: no object is "
            f"seen in their images, such as {left_out[0]!r}, or these cannot be read",
            stacklevel=3,
        )
    counts = np.array([len(rows) for rows in shown.values()])
    asked = np.repeat(np.arange(len(expressions)), counts[image_of])
    return asked, np.concatenate([shown[names[image]] for image in image_of]).astype(np.int64)


def _best(asked: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the index of each expression's pair with the highest value, the first among equals."""
    order = np.lexsort((np.arange(len(values)), -values, asked))
    return order[np.unique(asked[order], return_index=True)[1]]
