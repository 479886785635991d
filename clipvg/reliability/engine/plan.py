"""Order of a rescoring pass: which images are decoded together and which labels they serve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipvg.labels import LabelTable


@dataclass(frozen=True)
class Chunk:
    """Some distinct images and all labels on them.

    Attributes:
        images: image names as in the labels.
        rows: (R,) int64 rows of the labels, grouped by image.
        image_of_row: (R,) int64 position in ``images`` of each row's image.
    """

    images: list[str]
    rows: np.ndarray
    image_of_row: np.ndarray


def plan_chunks(labels: LabelTable, images_per_chunk: int) -> list[Chunk]:
    """Group labels by image, images in order of first appearance.

    Args:
        labels: N labels.
        images_per_chunk: most distinct images in a chunk: what is decoded and held at a time.

    Returns:
        Chunks in which every image and every row occurs exactly once.
    """
    names, image_of = labels.distinct_images()
    order = np.argsort(image_of, kind="stable")
    ends = np.cumsum(np.bincount(image_of, minlength=len(names)))
    chunks = []
    for first in range(0, len(names), images_per_chunk):
        images = list(names[first : first + images_per_chunk])
        rows = order[ends[first - 1] if first else 0 : ends[first + len(images) - 1]]
        chunks.append(Chunk(images, rows, image_of[rows] - first))
    return chunks
