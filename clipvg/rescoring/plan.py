"""Plan of a rescoring pass: which images are decoded together, and which labels are on them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipvg.labels import LabelTable
from clipvg.labels.box_column import box_values

Shard = tuple[int, int]  # images [first, last) of a `Plan`
IMAGES_PER_SHARD = 128
LABELS_PER_SHARD = 2048  # minutes of work on a CPU: what is lost when a pass is killed
# Part of every key of scores; raise it when equal models on equal labels would get other scores.
SCORES_VERSION = "clipvg scores 1"


@dataclass(frozen=True)
class Chunk:
    """Some distinct images and all labels on them."""

    images: list[str]  # image names as in the labels
    rows: np.ndarray  # (R,) int64 rows of the labels, grouped by image
    image_of_row: np.ndarray  # (R,) int64 position in ``images`` of each row's image


class Plan:
    """Labels grouped by image, images in order of first appearance.

    Args:
        labels: N labels.
    """

    def __init__(self, labels: LabelTable) -> None:
        self.labels = labels
        self._names, self._image_of = labels.distinct_images()
        self._order = np.argsort(self._image_of, kind="stable")
        counts = np.bincount(self._image_of, minlength=len(self._names))
        self._ends = np.concatenate([[0], np.cumsum(counts)])

    @property
    def num_images(self) -> int:
        """Number of distinct images."""
        return len(self._names)

    def shards(self, size: int | None = None) -> list[Shard]:
        """Divide all images into shards of `size` images; 128 when None.

        A shard ends early if one more image would give it over 2,048 labels.
        """
        size, count = size or IMAGES_PER_SHARD, self.num_images
        shards: list[Shard] = []
        first = 0
        while first < count:
            most = self._ends[first] + LABELS_PER_SHARD
            full = int(np.searchsorted(self._ends, most, side="right")) - 1
            last = min(first + size, max(full, first + 1), count)
            shards.append((first, last))
            first = last
        return shards

    def chunk(self, first: int, last: int) -> Chunk:
        """Return images [first, last) with their labels."""
        rows = self._order[self._ends[first] : self._ends[last]]
        return Chunk(list(self._names[first:last]), rows, self._image_of[rows] - first)

    def chunks(self, size: int, first: int = 0, last: int | None = None) -> Iterator[Chunk]:
        """Yield images [first, last) in chunks of at most ``size``."""
        last = self.num_images if last is None else last
        for start in range(first, last, size):
            yield self.chunk(start, min(start + size, last))


class ShardKeys:
    """Keys of shards: hashes of the labels and image files that scores depend on.

    Args:
        plan: of N labels; ``truth``, sources, weights and earlier scores do not affect the keys.
    """

    def __init__(self, plan: Plan) -> None:
        self._labels = labels = plan.labels
        self._expressions = in_one_piece(labels.table.column("expression"))
        self._boxes = box_values(labels.table.column("box"))
        self._is_xywh = labels.is_xywh()

    def key(self, chunk: Chunk) -> str:
        """Return the key of a shard.

        It covers the names, sizes and modification times of the image files ("missing" if there is
        none), and the expressions and boxes as written, in the order in which they are scored.
        """
        files = [_identity(self._labels.image_path(name)) for name in chunk.images]
        texts = self._expressions.take(pa.array(chunk.rows)).to_pylist()
        digest = hashlib.sha256(json.dumps([SCORES_VERSION, chunk.images, files, texts]).encode())
        digest.update(chunk.image_of_row.astype("<i8").tobytes())
        digest.update(self._boxes[chunk.rows].astype("<f8").tobytes())
        digest.update(self._is_xywh[chunk.rows].tobytes())
        return digest.hexdigest()[:32]


def one_image_a_label(chunk: Chunk) -> Chunk:
    """Return the chunk with each label on an image of its own, as if no two shared one."""
    names = [chunk.images[i] for i in chunk.image_of_row]
    return Chunk(names, chunk.rows, np.arange(len(chunk.rows)))


def in_one_piece(texts: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Return a column of strings as one chunk: taking rows from several copies it each time.

    Taking a thousand of five million rows costs 60 ms with five chunks, 0.02 ms with one.
    """
    return texts if texts.num_chunks == 1 else texts.cast(pa.large_string()).combine_chunks()


def _identity(path: Path) -> str:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a name with a null character
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"
