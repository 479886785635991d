"""Open image files: regular files only, with no more pixels than allowed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image, UnidentifiedImageError

from clipvg.errors import InputError, one_line
from clipvg.runtime.gate import check_file

# Pillow warns above the number of pixels at which `open_image` raises.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Open an image file without decoding it.

    Raises:
        InputError: the file is missing, empty, not an image, or has more than
            `PIL.Image.MAX_IMAGE_PIXELS` pixels; or the block cannot read it.
    """
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file; check the image root and the name")
    with opened(check_file(path), str(path)) as image:
        yield image


@contextmanager
def opened(file: Path | IO[bytes], path: str) -> Iterator[Image.Image]:
    """Open an image as `open_image` does, from a file or a stream; errors name it `path`."""
    try:
        with Image.open(file) as image:
            limit, pixels = Image.MAX_IMAGE_PIXELS, image.width * image.height
            if limit is not None and pixels > limit:
                raise InputError(f"{path}: {_too_large(pixels, limit)}")
            yield image
    except UnidentifiedImageError:
        raise InputError(
            f"{path}: not an image, or of a kind that Pillow cannot read; replace it, or "
            "convert it (HEIC with pillow-heif)"
        ) from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: {_too_large(None, Image.MAX_IMAGE_PIXELS or 0)}") from None
    except MemoryError:
        raise InputError(f"{path}: more than the memory holds; shrink the image") from None
    except InputError:
        raise
    except Exception as error:  # Pillow's plugins raise many kinds, and each means damage
        raise InputError(f"{path}: cannot be read ({one_line(error, 120)})") from None


def _too_large(pixels: int | None, limit: int) -> str:
    much = f"{pixels:,} pixels, more" if pixels else "more"
    return f"{much} than {limit:,} pixels; shrink the image, or raise --max_pixels"


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (width, height) of the upright image; a PNG without EXIF is decoded for it."""
    with open_image(path) as image:
        return image.size[::-1] if is_sideways(image) else image.size


def look_at_image(path: str | Path) -> tuple[tuple[int, int], bool]:
    """Decode an image (a JPEG at an eighth of its size) to check that it can be read.

    Returns:
        (width, height) as stored, and whether EXIF rotates it by a right angle.
    """
    with open_image(path) as image:
        size = image.size
        image.draft("RGB", (1, 1))
        load_image(image, str(path))
        return size, is_sideways(image)


def load_image(image: Image.Image, name: str) -> None:
    """Decode an opened image; raise InputError, which names it `name`, if it is damaged."""
    try:
        image.load()
    except (Image.DecompressionBombError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise many kinds, and each means damage
        raise InputError(
            f"{name}: damaged or truncated image ({one_line(error)}); replace the file"
        ) from None


def is_sideways(image: Image.Image) -> bool:
    """Return whether EXIF rotates an image by a right angle."""
    return image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
