"""Read image files as RGB with eight bits per channel, and decode them ahead in threads.

All passes without augmentation read their images through `decode`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from clipvg.errors import InputError
from clipvg.runtime.images import load_image, open_image

C = TypeVar("C")
S = TypeVar("S")
T = TypeVar("T")

MAX_WORKERS = 16
_BAND = 256  # rows scaled at a time


def read_image(path: str | Path | Image.Image, *, exif: bool = True) -> Image.Image:
    """Read an image as RGB, fully decoded.

    Sixteen-bit and floating-point greyscale values are scaled to eight bits; palettes and CMYK are
    converted; alpha is dropped, not composited (as in the reference code); of an animation the
    first frame is taken.

    Args:
        path: a file, or an opened image.
        exif: apply the EXIF orientation.

    Raises:
        InputError: the file is missing, empty, not an image, truncated or too large.
    """
    if isinstance(path, Image.Image):
        return _to_rgb(path, exif, "the image")
    with open_image(path) as image:
        return _to_rgb(image, exif, str(path))


def _to_rgb(image: Image.Image, exif: bool, name: str) -> Image.Image:
    load_image(image, name)
    if not image.width or not image.height:
        raise InputError(
            f"{name} has {image.width} x {image.height} pixels; pass an image that is not empty"
        )
    if exif:
        image = _upright(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_eight_bits(np.asarray(image), image.mode))
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError):
        return image  # a damaged EXIF block says nothing about the orientation


def _eight_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Scale greyscale values of more than eight bits to uint8, so that white stays white."""
    bands = np.split(values, range(_BAND, len(values), _BAND))
    highest = max((_finite(band).max(initial=0.0) for band in bands), default=0.0)
    if mode.startswith("I;16"):
        white = 65535.0
    else:
        # 32-bit and floating-point files do not define white: take the smallest usual range.
        white = next((w for w in (1.0, 255.0, 65535.0) if highest <= w), highest)
        white = 255.0 if mode == "I" and white == 1.0 else white
    result = np.empty(values.shape, np.uint8)
    for band, target in zip(bands, np.split(result, range(_BAND, len(result), _BAND)), strict=True):
        target[:] = np.rint(np.clip(_finite(band), 0, white) * (255.0 / white))
    return result


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def decode(
    chunks: Iterable[tuple[C, Sequence[S]]],
    load: Callable[[S], T],
    *,
    workers: int | None = None,
) -> Generator[tuple[C, list[T | InputError]], None, None]:
    """Yield chunks with their images, while the images of the next chunk are decoded.

    Args:
        chunks: pairs of any object and the files that belong to it, in the order wanted.
        load: function applied to each file, such as `load_squares`.
        workers: number of threads; None means one per core, at most 16; 0 decodes in the calling
            thread, on demand.

    Yields:
        Each chunk's object, and for each of its files the result of `load` or its InputError.
    """
    if workers == 0:
        for chunk, paths in chunks:
            yield chunk, [_attempt(load, path) for path in paths]
        return
    waiting: deque[tuple[C, list[Future[T | InputError]]]] = deque()
    pool = ThreadPoolExecutor(workers or min(os.cpu_count() or 1, MAX_WORKERS))
    try:
        for chunk, paths in chunks:
            waiting.append((chunk, [pool.submit(_attempt, load, path) for path in paths]))
            if len(waiting) > 1:
                yield _ready(*waiting.popleft())
        while waiting:
            yield _ready(*waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _attempt(load: Callable[[S], T], path: S) -> T | InputError:
    try:
        return load(path)
    except InputError as error:
        return error


def _ready(chunk: C, jobs: list[Future[T | InputError]]) -> tuple[C, list[T | InputError]]:
    return chunk, [job.result() for job in jobs]
