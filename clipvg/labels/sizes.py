"""Sizes of the images of labels: from the table, else of the files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from clipvg.errors import InputError
from clipvg.labels.table import LabelTable
from clipvg.runtime.images import image_size
from clipvg.runtime.progress import progress_bar

THREADS = 8  # that open images: more wait for a network's disks, fewer for this machine's


def find_sizes(
    labels: LabelTable, *, most: int | None = None, progress: bool = False
) -> np.ndarray:
    """Return the (N, 2) int32 upright width and height of each label's image, -1 where not known.

    Args:
        labels: the labels; sizes in their columns are taken as they are.
        most: images to open, evenly chosen, where the columns do not say; None opens all.
        progress: show a bar.
    """
    sizes = labels.sizes()
    unknown = (sizes <= 0).any(axis=1)
    if not unknown.any():
        return sizes
    names, of_row = labels.distinct_images()
    images = np.unique(of_row[unknown])
    if most is not None and len(images) > most:
        images = images[np.linspace(0, len(images) - 1, most).astype(int)]
    found = np.full((len(names), 2), -1, np.int32)
    paths = [labels.image_path(names[image] or "\0") for image in images]
    bar = progress_bar(len(paths), desc="sizes of images", unit="image", show=progress)
    with ThreadPoolExecutor(THREADS) as pool, bar:
        for image, size in zip(images, pool.map(_size, paths), strict=True):
            found[image] = size
            bar.update()
    sizes[unknown] = found[of_row[unknown]]
    return sizes


def _size(path: Path) -> tuple[int, int]:
    try:
        return image_size(path)
    except InputError:
        return -1, -1
