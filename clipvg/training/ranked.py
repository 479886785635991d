"""Recall of a grounder that ranks given boxes: R@1, R@5 and R@10, as on Flickr30k Entities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from clipvg.boxes import iou
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.labels.formats.flickr import boxes_of_phrases
from clipvg.runtime.files import Json
from clipvg.runtime.progress import progress_bar

RANKS = (1, 5, 10)
RIGHT = 0.5  # IoU from which a box is a hit


class Ranker(Protocol):
    """A grounder that scores how likely an expression means each of some given boxes."""

    def rank(self, image: Path, expressions: Sequence[str], boxes: np.ndarray, /) -> np.ndarray:
        """Return (E, K) numbers for E texts and (K, 4) xyxy pixels, higher is likelier."""
        ...


@dataclass
class Recall:
    """Share of labels with a hit, a box of IoU >= 0.5, among the k boxes ranked first, by k.

    Attributes:
        count: number of labels; one without candidates has no hit.
        merged_box: shares for the label's one box, which encloses all boxes of a phrase.
        any_box: shares for any box of a phrase; None if labels do not list them.
        upper_bound: upper bound of `merged_box`: share of labels with a hit among all candidates.
    """

    count: int
    merged_box: dict[int, float]
    any_box: dict[int, float] | None
    upper_bound: float

    def to_dict(self) -> Json:
        """Return `count`, `upper_bound` and, by protocol, `r_1`, `r_5` and `r_10`."""
        protocols = {"merged_box": self.merged_box, "any_box": self.any_box}
        named = {
            name: {f"r_{k}": share for k, share in shares.items()}
            for name, shares in protocols.items()
            if shares is not None
        }
        return {"count": self.count, "upper_bound": self.upper_bound, **named}


def measure_recall(
    ranker: Ranker,
    labels: LabelTable,
    candidates: Mapping[str, np.ndarray],
    *,
    progress: bool = False,
) -> Recall:
    """Rank the candidates of each label's image, and measure how early its box comes.

    Args:
        ranker: a grounding model, or anything else with `rank`.
        labels: N labels with an image root.
        candidates: name of an image -> boxes (K, 4), xyxy pixels.
        progress: show a bar where it takes over two seconds.

    Raises:
        InputError: no label's image has candidates, or an image cannot be read.
    """
    (images, image_of), merged = labels.distinct_images(), labels.boxes()
    if len(labels) and not any(len(candidates.get(name, ())) for name in images):
        raise InputError(f"no candidate box of any image of the labels, such as {images[0]}")
    by_image = np.argsort(image_of, kind="stable")
    starts = np.searchsorted(image_of[by_image], np.arange(len(images) + 1))
    each = [merged[row : row + 1] for row in range(len(labels))]
    if (listed := boxes_of_phrases(labels)) is not None:
        rows, boxes = listed
        each = np.split(boxes, np.searchsorted(rows, np.arange(1, len(labels))))
    # Rank, from 0, of the first hit of each label; the largest int64 if there is none.
    found = np.full((2, len(labels)), np.iinfo(np.int64).max)
    texts = labels.expressions
    with progress_bar(len(labels), desc="rank", unit="label", show=progress) as bar:
        for number, name in enumerate(images):
            rows = by_image[starts[number] : starts[number + 1]]
            given = candidates.get(name, np.zeros((0, 4), np.float32))
            if len(given):
                asked = [texts[row] for row in rows]
                likely = ranker.rank(labels.image_path(name), asked, given)  # (E, K)
                orders = np.argsort(-likely, axis=1, kind="stable")
                for row, order in zip(rows, orders, strict=True):
                    found[0, row] = _first_hit(given[order], merged[row : row + 1])
                    found[1, row] = _first_hit(given[order], each[row])
            bar.update(len(rows))
    shares = [{k: _share(place < k) for k in RANKS} for place in found]
    bound = _share(found[0] < np.iinfo(np.int64).max)
    return Recall(len(labels), shares[0], None if listed is None else shares[1], bound)


def _first_hit(ordered: np.ndarray, targets: np.ndarray) -> int:
    """Return the rank of the first box (K, 4) that hits one of (T, 4); largest int64 for none."""
    pairs = np.repeat(ordered, len(targets), axis=0), np.tile(targets, (len(ordered), 1))
    hits = np.flatnonzero((iou(*pairs) >= RIGHT).reshape(len(ordered), -1).any(axis=1))
    return int(hits[0]) if len(hits) else np.iinfo(np.int64).max


def _share(hits: np.ndarray) -> float:
    return float(hits.mean()) if len(hits) else float("nan")
