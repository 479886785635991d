"""Check image files: missing, unreadable, rotated by EXIF, or of another size than labels say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipvg.errors import InputError
from clipvg.labels.check.finding import Finding
from clipvg.labels.check.names import find_on_disk
from clipvg.labels.table import LabelTable
from clipvg.labels.units import THREADS
from clipvg.runtime.images import look_at_image
from clipvg.runtime.progress import progress_bar


@dataclass(frozen=True)
class ImageFacts:
    """Facts about the U distinct images of a table."""

    faults: list[str]  # U reasons why an image cannot be read; "" if it can
    missing: np.ndarray  # (U,) bool, no such file
    stored: np.ndarray  # (U, 2) int32 width and height as stored, -1 where unknown
    turned: np.ndarray  # (U,) bool, EXIF rotates it by a right angle

    @property
    def upright(self) -> np.ndarray:
        """(U, 2) int32 width and height with the EXIF rotation applied."""
        return np.where(self.turned[:, None], self.stored[:, ::-1], self.stored)


def look_at_images(labels: LabelTable, *, progress: bool = False) -> ImageFacts:
    """Look up and decode each distinct image, several at a time.

    Decoding detects truncated files; JPEGs are decoded at an eighth of their size.
    """
    paths = [labels.image_path(name or "\0") for name in labels.distinct_images()[0]]
    there = find_on_disk(paths)
    faults, sizes, turned = [], np.full((len(paths), 2), -1, np.int32), np.zeros(len(paths), bool)
    bar = progress_bar(len(paths), desc="images", unit="image", show=progress)
    with ThreadPoolExecutor(THREADS) as pool, bar:
        looks = pool.map(lambda each: _look(*each), zip(paths, there, strict=True))
        for i, (fault, size, is_turned) in enumerate(looks):
            faults.append(fault)
            sizes[i], turned[i] = size, is_turned
            bar.update()
    return ImageFacts(faults, ~there, sizes, turned)


def _look(path: Path, there: bool) -> tuple[str, tuple[int, int], bool]:
    if not there:
        return "no such file", (-1, -1), False
    try:
        return "", *look_at_image(path)
    except InputError as error:
        return str(error).removeprefix(f"{path}: "), (-1, -1), False


def known_sizes(labels: LabelTable, facts: ImageFacts | None, *, exif: bool) -> np.ndarray:
    """Return (N, 2) sizes of files, upright if ``exif`` or as stored; else of columns, else -1."""
    sizes = labels.sizes()
    if facts is None:
        return sizes
    opened = (facts.upright if exif else facts.stored)[labels.distinct_images()[1]]
    return np.where(opened > 0, opened, sizes)


def find_image_faults(labels: LabelTable, facts: ImageFacts) -> Iterator[Finding]:
    """Yield findings on image files: unreadable, rotated by EXIF, or of a size that differs."""
    names, of_row = labels.distinct_images()
    damaged = np.array([bool(fault) for fault in facts.faults], bool) & ~facts.missing
    stored, upright = facts.stored[of_row], facts.upright[of_row]
    said = labels.sizes()
    differs = (said > 0).all(axis=1) & (stored > 0).all(axis=1)
    # For a file that EXIF rotates, both the stored and the upright size are correct.
    differs &= (said != upright).any(axis=1) & (said != stored).any(axis=1)
    yield from Finding.of_rows(
        "unreadable-image",
        "labels whose image cannot be read",
        damaged[of_row],
        lambda row: f"{names[of_row[row]]}: {facts.faults[of_row[row]]}",
        remedy="Replace the files, or leave their labels out.",
    )
    yield from Finding.of_rows(
        "exif",
        "labels on photographs that EXIF rotates by a right angle",
        facts.turned[of_row],
        lambda row: (
            f"{names[of_row[row]]} is stored as {_by(stored[row])} and seen as {_by(upright[row])}"
        ),
        remedy="clipvg turns them upright, so boxes must be of the upright image; preset "
        "published leaves them as stored.",
    )
    yield from Finding.of_rows(
        "size",
        "labels that give their image another size than the file has",
        differs,
        lambda row: f"width and height say {_by(said[row])}, the file is {_by(upright[row])}",
        remedy="If the images were resized, the boxes must be scaled with them.",
    )


def _by(size: Iterable[int]) -> str:
    width, height = size
    return f"{width}x{height}"
