"""Presets: preprocessing rules, either corrected or exactly those of the reference code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from clipvg.errors import InputError, near_matches

Channels = tuple[float, float, float]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preset:
    """How images, boxes and text become tensors; its name is recorded in every model's config.

    Attributes:
        name: name of the preset.
        mean: mean of the three channels in [0, 1].
        std: standard deviation of the three channels.
        integer_boxes: truncate boxes as written to integers before any conversion.
        exif: apply the EXIF orientation of an image.
        text_mask: real tokens are those up to the end token ("eot") or those with an id above 0
            ("nonzero").
        patch_mask: ignore a patch if it contains no pixel of the image ("image") or if more than
            half of its four centre pixels are padding ("centre").
        overlength: cut expressions longer than the context ("truncate") or refuse them ("error").
        special_names: read "<|endoftext|>" in an expression as the end token, not as text.
        direction: how to find directions in expressions, whose images are never cropped in
            training: as whole words ("word") or anywhere ("substring": "laptop" contains "top").
    """

    name: str
    mean: Channels
    std: Channels
    integer_boxes: bool = False
    exif: bool = True
    text_mask: Literal["eot", "nonzero"] = "eot"
    patch_mask: Literal["image", "centre"] = "image"
    overlength: Literal["truncate", "error"] = "truncate"
    special_names: bool = False
    direction: Literal["word", "substring"] = "word"


_PUBLISHED = Preset(
    "published",
    IMAGENET_MEAN,
    IMAGENET_STD,
    integer_boxes=True,
    exif=False,
    text_mask="nonzero",
    patch_mask="centre",
    overlength="error",
    special_names=True,
    direction="substring",
)
#: Functions that make a preset from the mean and std that a backbone was trained with.
PRESETS: dict[str, Callable[[Channels, Channels], Preset]] = {
    "default": partial(Preset, "default"),
    "published": lambda mean, std: _PUBLISHED,
}


def get_preset(name: str, mean: Channels = CLIP_MEAN, std: Channels = CLIP_STD) -> Preset:
    """Return the preset "default", with a backbone's own mean and std, or "published".

    Raises:
        InputError: there is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}: {near_matches(name, PRESETS)}")
    return PRESETS[name](mean, std)
