"""Training augmentation of the published recipes (CLIP-VG, arXiv 2305.08685, reference code).

In one of two branches the image is cropped first. Its long side is then resized to a random scale,
its colours are jittered, and it is pasted at a random position in a square. It is never flipped,
which would swap left and right. A label's augmentation depends only on the seed of the call.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image, ImageFilter
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from clipvg.data.letterbox import normalise
from clipvg.data.preset import Preset

DIRECTIONS = ("left", "right", "top", "bottom", "middle")
NUM_SCALES = 7
CROP_PROBABILITY = 0.5
SHORT_SIDES = (400, 500, 600)
CROP_SIDES = (384, 600)
CROP_TRIES = 20
JITTER_PROBABILITY = 0.8
JITTER_FACTORS = (0.6, 1.4)
BLUR_PROBABILITY = 0.5
BLUR_RADII = (0.1, 2.0)

_DIRECTION_WORD = re.compile(rf"\b(?:{'|'.join(DIRECTIONS)})\b", re.IGNORECASE)


def names_direction(expression: str, rule: Literal["word", "substring"] = "word") -> bool:
    """Return whether an expression contains a direction, so that its position in the image matters.

    Rule "word" matches whole words only; "substring" matches anywhere, as the reference code does
    (so that "laptop" contains "top").
    """
    if rule == "substring":
        return any(word in expression.lower() for word in DIRECTIONS)
    return _DIRECTION_WORD.search(expression) is not None


@dataclass
class TrainTransform:
    """Random crop, scale, colour jitter and position of one image and its boxes.

    The crop is drawn in the published coordinates (short side 400, 500 or 600) but cut from the
    original pixels, so that the image is resampled only once. A crop is accepted if it contains
    the centre of each box and the box, clipped to it, keeps some area. Images whose expressions
    name a direction are never cropped.
    """

    size: int  # side of the square in pixels; the scales are its sevenths (224 to 32 at 224)
    preset: Preset  # gives mean, standard deviation and the rule for direction words
    _: KW_ONLY
    crop: bool = True  # allow the crop branch
    scale: bool = True  # random scale; otherwise the long side becomes ``size``
    translate: bool = True  # random position in the square; otherwise the image is centred
    jitter: bool = True  # brightness, contrast and saturation in random order
    blur: bool = False  # Gaussian blur

    @cached_property
    def scales(self) -> tuple[int, ...]:
        """Candidates for the image's long side in pixels, one of which is drawn."""
        steps = range(NUM_SCALES) if self.scale else range(1)
        return tuple(max(1, round(self.size * (NUM_SCALES - i) / NUM_SCALES)) for i in steps)

    def __call__(
        self, image: Image.Image, boxes: ArrayLike, expressions: Sequence[str], *, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Transform one RGB image and the boxes of n labels on it, (n, 4) xyxy in its pixels.

        The image is cropped only if no expression names a direction, and only such that each box
        keeps its centre and some of its area. The seed determines every random draw.

        Returns:
            Pixels (3, size, size) float32, zero where padded; mask (size, size) bool, True where
                padded; boxes (n, 4) float32, cxcywh normalised to the square.
        """
        draw = torch.Generator().manual_seed(seed)
        placed = tv_tensors.BoundingBoxes(
            torch.as_tensor(np.asarray(boxes), dtype=torch.float32).reshape(-1, 4),
            format="XYXY",
            canvas_size=(image.height, image.width),
            clamping_mode=None,  # boxes may reach outside the image
        )
        if self._crops(expressions, draw):
            image, placed = _random_crop(image, placed, draw)
        image, placed = self._resize(image, placed, draw)
        image = self._recolour(image, draw)
        return self._paste(normalise(image, self.preset), placed, draw)

    def _crops(self, expressions: Sequence[str], draw: torch.Generator) -> bool:
        if not self.crop or any(names_direction(e, self.preset.direction) for e in expressions):
            return False
        return _uniform(0, 1, draw) < CROP_PROBABILITY

    def _resize(
        self, image: Image.Image, boxes: tv_tensors.BoundingBoxes, draw: torch.Generator
    ) -> tuple[Image.Image, tv_tensors.BoundingBoxes]:
        ratio = _choose(self.scales, draw) / max(image.size)
        sides = [max(1, round(image.height * ratio)), max(1, round(image.width * ratio))]
        image = F.resize(image, sides, interpolation=InterpolationMode.BILINEAR, antialias=True)
        return image, F.resize(boxes, sides)

    def _recolour(self, image: Image.Image, draw: torch.Generator) -> Image.Image:
        if self.jitter and _uniform(0, 1, draw) < JITTER_PROBABILITY:
            adjust = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
            for i in torch.randperm(len(adjust), generator=draw).tolist():
                image = adjust[i](image, _uniform(*JITTER_FACTORS, draw))
        if self.blur and _uniform(0, 1, draw) < BLUR_PROBABILITY:
            # PIL's filter, as published; torchvision's cannot blur images of a few pixels.
            image = image.filter(ImageFilter.GaussianBlur(_uniform(*BLUR_RADII, draw)))
        return image

    def _paste(
        self, pixels: torch.Tensor, boxes: tv_tensors.BoundingBoxes, draw: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        spare_x, spare_y = self.size - pixels.shape[2], self.size - pixels.shape[1]
        if self.translate:
            left, top = _integer(0, spare_x, draw), _integer(0, spare_y, draw)
        else:
            left, top = round(spare_x / 2 - 0.1), round(spare_y / 2 - 0.1)
        around = [left, top, spare_x - left, spare_y - top]
        image = torch.zeros(pixels.shape[1:], dtype=torch.bool)
        boxes = F.convert_bounding_box_format(F.pad(boxes, around), new_format="CXCYWH")
        return (
            F.pad(pixels, around, fill=0.0),
            F.pad(image[None], around, fill=1.0)[0],
            boxes.as_subclass(torch.Tensor) / self.size,
        )


def _random_crop(
    image: Image.Image, boxes: tv_tensors.BoundingBoxes, draw: torch.Generator
) -> tuple[Image.Image, tv_tensors.BoundingBoxes]:
    """Return a random crop with the centre and some area of each box, else the whole image."""
    ratio = min(image.size) / _choose(SHORT_SIDES, draw)
    width, height = (round(side / ratio) for side in image.size)
    for _ in range(CROP_TRIES):
        crop_width = _integer(CROP_SIDES[0], min(width, CROP_SIDES[1]), draw)
        crop_height = _integer(CROP_SIDES[0], min(height, CROP_SIDES[1]), draw)
        left = _integer(0, width - crop_width, draw)
        top = _integer(0, height - crop_height, draw)
        window = (
            min(round(top * ratio), image.height - 1),
            min(round(left * ratio), image.width - 1),
            max(1, min(round(crop_height * ratio), image.height - round(top * ratio))),
            max(1, min(round(crop_width * ratio), image.width - round(left * ratio))),
        )
        cropped = _crop_boxes(boxes, *window)
        if cropped is not None:
            return F.crop(image, *window), cropped
    return image, boxes


def _crop_boxes(
    boxes: tv_tensors.BoundingBoxes, top: int, left: int, height: int, width: int
) -> tv_tensors.BoundingBoxes | None:
    """Return boxes clipped to the crop, or None if the centre or whole area of one is outside."""
    for x1, y1, x2, y2 in boxes.tolist():
        inside_x = left <= (x1 + x2) / 2 < left + width
        inside_y = top <= (y1 + y2) / 2 < top + height
        if not (inside_x and inside_y):
            return None
    moved = F.crop(boxes, top, left, height, width)
    clipped = F.clamp_bounding_boxes(moved, clamping_mode="hard")
    return clipped if all(x2 > x1 and y2 > y1 for x1, y1, x2, y2 in clipped.tolist()) else None


def _uniform(low: float, high: float, draw: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=draw).item()


def _integer(low: int, high: int, draw: torch.Generator) -> int:
    """Return a random integer between two inclusive bounds."""
    return int(torch.randint(low, high + 1, (), generator=draw)) if high > low else high


def _choose(values: Sequence[int], draw: torch.Generator) -> int:
    return values[_integer(0, len(values) - 1, draw)]
