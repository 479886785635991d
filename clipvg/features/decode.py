"""Image files as models see them: each decoded once, however many models look at it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from clipvg.data.image import read_image
from clipvg.data.letterbox import Square, make_square
from clipvg.features.keys import PixelsKey, pixels_key

if TYPE_CHECKING:
    from PIL import Image

    from clipvg.model.grounder import GroundingModel


def load_squares(path: Path, models: Iterable[GroundingModel]) -> dict[PixelsKey, Square]:
    """Decode an image once and make the square that each model sees of it, equal ones once."""
    images: dict[bool, Image.Image] = {}
    squares: dict[PixelsKey, Square] = {}
    for model in models:
        preset, key = model.preset, pixels_key(model)
        if key in squares:
            continue
        if preset.exif not in images:
            images[preset.exif] = read_image(path, exif=preset.exif)
        squares[key] = make_square(images[preset.exif], model.backbone.image_size, preset)
    return squares


def load_images(path: Path, exif_rules: Iterable[bool]) -> dict[bool, Image.Image]:
    """Decode an image, with the EXIF orientation applied, without, or both."""
    return {exif: read_image(path, exif=exif) for exif in exif_rules}
