"""Letterboxing: scale an image's long side to the input size and centre it in a padded square.

One ratio scales both sides and the boxes. Each side is then rounded separately (halves to even, as
Python does) and is at least one pixel, so that even a very thin image does not vanish.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image

from clipvg.boxes import convert
from clipvg.data.image import read_image
from clipvg.data.preset import Preset
from clipvg.errors import InputError


@dataclass(frozen=True)
class Letterbox:
    """Position of an image of ``width`` x ``height`` pixels in a square of ``size`` pixels."""

    width: int
    height: int
    size: int

    @property
    def scale(self) -> float:
        """Pixels in the square per pixel of the image, before the sides are rounded."""
        return self.size / max(self.width, self.height)

    @property
    def resized(self) -> tuple[int, int]:
        """(width, height) of the resized image in pixels."""
        return max(1, round(self.width * self.scale)), max(1, round(self.height * self.scale))

    @property
    def offset(self) -> tuple[int, int]:
        """(x, y) of the resized image's top left corner in the square, in pixels."""
        width, height = self.resized
        return round((self.size - width) / 2 - 0.1), round((self.size - height) / 2 - 0.1)

    def to_square(self, boxes: ArrayLike) -> np.ndarray:
        """Map xyxy image pixels (..., 4) to unclipped cxcywh float32 normalised to the square."""
        return self._convert(square_boxes, boxes)

    def to_image(self, boxes: ArrayLike) -> np.ndarray:
        """Map cxcywh (..., 4) normalised to the square to xyxy float32 image pixels, clipped."""
        return self._convert(image_boxes, boxes)

    def _convert(self, way: Callable[..., np.ndarray], boxes: ArrayLike) -> np.ndarray:
        boxes = np.asarray(boxes)
        sizes = np.broadcast_to([self.width, self.height], (boxes.size // 4, 2))
        return way(boxes.reshape(-1, 4), sizes, self.size).reshape(boxes.shape)

    def pixel_mask(self) -> torch.Tensor:
        """Return (size, size) bool, True where there is padding."""
        mask = torch.ones(self.size, self.size, dtype=torch.bool)
        (x, y), (width, height) = self.offset, self.resized
        mask[y : y + height, x : x + width] = False
        return mask


class Square(NamedTuple):
    """A letterboxed image, as a model sees it."""

    pixels: torch.Tensor  # (3, size, size) float32, standardised, zero where padded
    mask: torch.Tensor  # (size, size) bool, True where padded
    box: Letterbox  # where the image lies in the square


def square_boxes(boxes: ArrayLike, sizes: ArrayLike, size: int) -> np.ndarray:
    """Convert boxes from image pixels to their letterboxed squares.

    Args:
        boxes: (N, 4) xyxy image pixels.
        sizes: (N, 2) image sizes as (width, height).
        size: side of the square in pixels.

    Returns:
        (N, 4) float32 cxcywh normalised to the square.
    """
    scale, offset = _placed(sizes, size)
    corners = np.asarray(boxes, dtype=np.float64) * scale + offset
    return (convert(corners, "xyxy", "cxcywh") / size).astype(np.float32)


def image_boxes(boxes: ArrayLike, sizes: ArrayLike, size: int) -> np.ndarray:
    """Convert boxes, (N, 4) cxcywh normalised to their squares, to image pixels.

    This inverts `square_boxes`; it returns (N, 4) float32 xyxy image pixels, clipped to the image.
    """
    scale, offset = _placed(sizes, size)
    corners = convert(np.asarray(boxes, dtype=np.float64), "cxcywh", "xyxy") * size
    return np.clip((corners - offset) / scale, 0, np.tile(sizes, (1, 2))).astype(np.float32)


def _placed(sizes: ArrayLike, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `Letterbox.scale` of each image, (N, 1), and `Letterbox.offset` repeated, (N, 4)."""
    sizes = np.asarray(sizes, dtype=np.float64)
    scale = size / sizes.max(axis=1, keepdims=True)
    # np.rint and Python's round both take halves to even
    resized = np.maximum(1, np.rint(sizes * scale))
    return scale, np.tile(np.rint((size - resized) / 2 - 0.1), (1, 2))


def patch_mask(
    pixel_mask: torch.Tensor, patch: int, rule: Literal["image", "centre"] = "image"
) -> torch.Tensor:
    """Return which patches are ignored as padding.

    Args:
        pixel_mask: (..., S, S) bool, True where there is padding; S a multiple of ``patch``.
        patch: side of a patch in pixels.
        rule: "image" ignores a patch without any image pixel; "centre" ignores it if the mean mask
            of its four centre pixels (one, for an odd side) exceeds 0.5, which equals the pixel
            mask resized bilinearly without antialiasing and rounded.

    Returns:
        (..., P) bool, patches in row-major order, True where the patch is ignored.
    """
    if rule == "centre":
        low, high = (patch - 1) // 2, patch // 2
        rows = pixel_mask[..., low::patch, :].int() + pixel_mask[..., high::patch, :].int()
        return (rows[..., low::patch] + rows[..., high::patch] > 2).flatten(-2)
    if rule != "image":
        raise InputError(f"unknown patch mask rule {rule!r}: choose from image, centre")
    grid = pixel_mask.unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))
    return grid.all(-1).all(-2).flatten(-2)


def normalise(image: Image.Image, preset: Preset) -> torch.Tensor:
    """Convert an RGB image to (3, height, width) float32 with standardised channels."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)
    mean, std = torch.tensor(preset.mean), torch.tensor(preset.std)
    return (pixels - mean[:, None, None]) / std[:, None, None]


def load_square(image: str | Path | Image.Image, size: int, preset: Preset) -> Square:
    """Read an image (a file, or a PIL image of any mode) and letterbox it, as for evaluation.

    Raises:
        InputError: the file cannot be read as an image.
    """
    return make_square(read_image(image, exif=preset.exif), size, preset)


def make_square(image: Image.Image, size: int, preset: Preset) -> Square:
    """Letterbox an image that is already RGB and upright."""
    box = Letterbox(image.width, image.height, size)
    resized = image.resize(box.resized, Image.Resampling.BILINEAR)
    pixels = torch.zeros(3, size, size)
    (x, y), (width, height) = box.offset, box.resized
    pixels[:, y : y + height, x : x + width] = normalise(resized, preset)
    return Square(pixels, box.pixel_mask(), box)
