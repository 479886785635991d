"""Presets: the small differences between what the reference code does and what is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clipvg.errors import InputError, near_matches

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preset:
    """How images, boxes and text become tensors; recorded in every model's config.

    Attributes:
        name: name of the preset.
        mean: mean of the three channels in [0, 1]; None is the backbone's own.
        std: deviation of the three channels; None is the backbone's own.
        integer_boxes: boxes as written are cut to integers before any conversion.
        exif: the EXIF orientation of a picture is applied.
        text_mask: real tokens are those up to the end token ("eot") or with an id above 0
            ("nonzero").
        patch_mask: a patch is ignored when it holds no picture pixel ("picture") or when more
            than half of its four centre pixels are padding ("centre").
        overlength: what happens to expressions longer than the context.
        special_names: "<|endoftext|>" written in an expression is the end token, not text.
        direction: expressions that are never cropped in training hold a direction as a word
            ("word") or anywhere ("substring": "laptop" counts for "top").
    """

    name: str
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    integer_boxes: bool = False
    exif: bool = True
    text_mask: Literal["eot", "nonzero"] = "eot"
    patch_mask: Literal["picture", "centre"] = "picture"
    overlength: Literal["truncate", "error"] = "truncate"
    special_names: bool = False
    direction: Literal["word", "substring"] = "word"


PRESETS = {
    "default": Preset("default"),
    "published": Preset(
        "published",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        integer_boxes=True,
        exif=False,
        text_mask="nonzero",
        patch_mask="centre",
        overlength="error",
        special_names=True,
        direction="substring",
    ),
}


def get_preset(name: str) -> Preset:
    """The preset of a name: "default" or "published"."""
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}: {near_matches(name, PRESETS)}")
    return PRESETS[name]
