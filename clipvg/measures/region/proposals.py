"""The boxes of each image that a label's box competes with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipvg.features.regions import whole_pixels
from clipvg.labels import LabelTable


@dataclass(frozen=True, eq=False)
class Proposals:
    """Distinct boxes by image."""

    boxes: np.ndarray  # (K, 4) float32 xyxy pixels as labelled, grouped by image
    starts: np.ndarray  # (U,) first box of each image
    counts: np.ndarray  # (U,) int64 proposals of each image, those of the raster included
    image_of: np.ndarray  # (N,) image of each label
    place_of: np.ndarray  # (N,) int64 place of each label's box among its image's proposals
    raster: int  # number of boxes that `pixels` adds to each image

    @classmethod
    def of(
        cls, labels: LabelTable, others: LabelTable | None = None, *, grid: int = 0
    ) -> Proposals:
        """Collect the distinct boxes of labels and of others, as far as a label is on their image.

        Every image gets a raster of `grid` cells a side with the whole image, too.
        """
        names, image_of = labels.distinct_images()
        images, boxes = image_of, labels.boxes()
        if others is not None:
            number = {name: i for i, name in enumerate(names)}
            other_names, other_of = others.distinct_images()
            known = np.array([number.get(name, -1) for name in other_names], dtype=np.int64)
            there = known[other_of] >= 0
            images = np.concatenate([images, known[other_of][there]])
            boxes = np.concatenate([boxes, others.boxes()[there]])
        keyed = np.column_stack([images, boxes.astype(np.float64)])
        distinct, inverse = np.unique(keyed, axis=0, return_inverse=True)
        of = distinct[:, 0].astype(np.int64)
        own = np.bincount(of, minlength=len(names))
        starts = np.concatenate([[0], np.cumsum(own)[:-1]]).astype(np.int64)
        place = inverse.reshape(-1)[: len(labels)] - starts[image_of]
        raster = grid * grid + (grid > 1) if grid else 0
        return cls(
            distinct[:, 1:].astype(np.float32), starts, own + raster, image_of, place, raster
        )

    def pixels(self, image: int, size: tuple[int, int], grid: int) -> np.ndarray:
        """Return an image's proposals (K, 4) int64 xyxy, whole pixels inside it, none empty."""
        start = self.starts[image]
        boxes = self.boxes[start : start + self.counts[image] - self.raster].astype(np.float64)
        if grid:
            edges = np.arange(grid + 1) / grid
            x, y = (axis.reshape(-1) for axis in np.meshgrid(edges[:-1], edges[:-1]))
            cells = np.stack([x, y, x + 1 / grid, y + 1 / grid], axis=1)
            whole = [[0.0, 0.0, 1.0, 1.0]] if grid > 1 else np.zeros((0, 4))
            boxes = np.concatenate([boxes, np.concatenate([cells, whole]) * np.tile(size, 2)])
        return whole_pixels(boxes, size)
