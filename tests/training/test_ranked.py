"""Recall of the right box among ranked ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.training.ranked import measure_recall


class FromTheLeft:
    """Ranks boxes by their left edge, the leftmost first."""

    def __init__(self) -> None:
        self.images: list[str] = []

    def rank(self, image: Path, expressions: Sequence[str], boxes: np.ndarray) -> np.ndarray:
        self.images.append(image.name)
        return np.tile(-boxes[:, 0], (len(expressions), 1))


def boxes_at(*places: float) -> np.ndarray:
    return np.array([[x, 0, x + 10, 10] for x in places], np.float32)


def test_recall_by_rank_and_protocol() -> None:
    labels = LabelTable.from_columns(
        image=["a.jpg", "a.jpg", "b.jpg", "none.jpg"],
        expression=["first", "sixth", "two", "unseen"],
        box=[[0, 0, 10, 10], [100, 0, 110, 10], [0, 0, 60, 10], [0, 0, 10, 10]],
    )
    candidates = {"a.jpg": boxes_at(100, 80, 60, 40, 20, 0), "b.jpg": boxes_at(0, 50)}
    ranker = FromTheLeft()
    found = measure_recall(ranker, labels, candidates)
    assert ranker.images == ["a.jpg", "b.jpg"]  # each image is asked about once
    assert found.merged_box == {1: 0.25, 5: 0.25, 10: 0.5}
    assert (found.any_box, found.upper_bound, found.count) == (None, 0.5, 4)
    # the third box is around two things, each of which is right by itself
    each = [json.dumps(boxes_at(*x).tolist()) for x in ((0,), (100,), (0, 50), (0,))]
    found = measure_recall(FromTheLeft(), labels.with_column("flickr.boxes", each), candidates)
    assert found.any_box == {1: 0.5, 5: 0.5, 10: 0.75}
    assert found.to_dict()["any_box"] == {"r_1": 0.5, "r_5": 0.5, "r_10": 0.75}


def test_candidates_of_other_images_are_refused() -> None:
    labels = LabelTable.from_columns(image=["a.jpg"], expression=["dog"], box=[[0, 0, 10, 10]])
    with pytest.raises(InputError, match=r"no candidate box .* such as a\.jpg"):
        measure_recall(FromTheLeft(), labels, {"b.jpg": boxes_at(1)})
