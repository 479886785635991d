"""Images from files, as RGB with eight bits a channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from clipvg.errors import InputError
from clipvg.runtime.images import load_image, open_image

_BAND = 256  # rows that are scaled at a time


def read_image(path: str | Path | Image.Image, *, exif: bool = True) -> Image.Image:
    """Read an image as RGB.

    Sixteen-bit and floating grey values are scaled to eight bits; palettes and CMYK are converted;
    alpha is dropped, not composited (as the reference code does); the first frame of an animation
    is taken.

    Args:
        path: a file, or an opened image.
        exif: apply the EXIF orientation.

    Returns:
        A fully decoded image in mode RGB.

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
        raise InputError(f"{name} has {image.width} x {image.height} pixels; pass one that has any")
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
    """Return grey values of more than eight bits, scaled so that white stays white."""
    bands = np.split(values, range(_BAND, len(values), _BAND))
    highest = max((_finite(band).max(initial=0.0) for band in bands), default=0.0)
    if mode.startswith("I;16"):
        white = 65535.0
    else:
        # 32-bit and floating files do not say what white is: take the smallest usual range.
        white = next((w for w in (1.0, 255.0, 65535.0) if highest <= w), highest)
        white = 255.0 if mode == "I" and white == 1.0 else white
    result = np.empty(values.shape, np.uint8)
    for band, target in zip(bands, np.split(result, range(_BAND, len(result), _BAND)), strict=True):
        target[:] = np.rint(np.clip(_finite(band), 0, white) * (255.0 / white))
    return result


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
