"""CLIP embeddings of image regions and of prompted expressions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from clipvg.data.letterbox import make_square
from clipvg.data.preset import Preset, get_preset
from clipvg.errors import InputError
from clipvg.model.backbone import Backbone
from clipvg.model.tokenizer import Tokenizer

Mode = Literal["crop", "blur", "both"]
PROMPT = "a photo of {}"
_BLUR = 0.15  # std of the blur in long sides of the image: 100 of 640 pixels, as in ReCLIP
_ENCODE_BATCH = 64  # regions held and encoded at once


def check_prompt(prompt: str) -> None:
    """Refuse a prompt without a placeholder for the expression."""
    if "{}" not in prompt:
        raise InputError(f"prompt={prompt!r} has no '{{}}'; put it where the expression goes.")


def modes_of(mode: str) -> tuple[str, ...]:
    """Return the one or two modes of `region_images` that a mode stands for."""
    return ("crop", "blur") if mode == "both" else (mode,)


def clip_preset(backbone: Backbone) -> Preset:
    """Return the preset of CLIP itself, with its own mean and std."""
    return get_preset("default", backbone.mean, backbone.std)


def clip_tokenizer(backbone: Backbone, prompt: str) -> Tokenizer:
    """Return the tokenizer for prompted expressions."""
    return Tokenizer(clip_preset(backbone), backbone.context_length, prompt=prompt)


def encode_prompted(backbone: Backbone, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Return the unit-length embeddings of texts, (T, E) float32."""
    tokens = tokenizer(texts)[0].to(backbone.clip.logit_scale.device)
    return backbone.clip.encode_text(tokens, normalize=True).float()


def encode_regions(
    backbone: Backbone,
    shown: Iterable[tuple[Image.Image, np.ndarray]],
    modes: Sequence[str],
) -> Tensor:
    """Return the unit-length embeddings of all regions of some images, in order.

    Args:
        backbone: CLIP.
        shown: images with their regions (K, 4): xyxy whole pixels inside the image, none empty.
        modes: how regions are shown, "crop" or "blur" each; see `region_images`.

    Returns:
        (modes, R, E) float32.
    """
    preset, device = clip_preset(backbone), backbone.clip.logit_scale.device
    squares: list[list[Tensor]] = [[] for _ in modes]
    found: list[list[Tensor]] = [[torch.zeros(0, backbone.embed_dim)] for _ in modes]

    def encode(kept: list[Tensor], encoded: list[Tensor]) -> None:
        if kept:
            pixels = torch.stack(kept).to(device)
            encoded.append(backbone.clip.encode_image(pixels, normalize=True).float())
            kept.clear()

    for image, boxes in shown:
        for kept, encoded, mode in zip(squares, found, modes, strict=True):
            for region in region_images(image, boxes, mode):
                kept.append(make_square(region, backbone.image_size, preset).pixels)
                if len(kept) == _ENCODE_BATCH:
                    encode(kept, encoded)
    for kept, encoded in zip(squares, found, strict=True):
        encode(kept, encoded)
    return torch.stack([torch.cat([part.to(device) for part in parts]) for parts in found])


def region_images(image: Image.Image, boxes: np.ndarray, mode: str) -> Iterator[Image.Image]:
    """Yield an image for each region (K, 4): xyxy whole pixels inside the image, none empty.

    "crop" cuts the region out; "blur" blurs everything outside it. Only one is held at a time,
    since a photograph may have hundreds of boxes.
    """
    blurred = None
    if mode == "blur":
        blurred = image.filter(ImageFilter.GaussianBlur(_BLUR * max(image.size)))
    for x1, y1, x2, y2 in boxes.tolist():
        crop = image.crop((int(x1), int(y1), int(x2), int(y2)))
        if blurred is None:
            yield crop
        else:
            copy = blurred.copy()
            copy.paste(crop, (int(x1), int(y1)))
            yield copy


def logit_scale(backbone: Backbone) -> Tensor:
    """Return the factor that CLIP multiplies similarities by."""
    return backbone.clip.logit_scale.float().exp()


def whole_pixels(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Extend boxes (K, 4) xyxy to whole pixels of an image (width, height), int64, none empty."""
    limit = np.array(size, dtype=np.float64)
    low = np.clip(np.floor(boxes[:, :2]), 0, limit - 1)
    high = np.clip(np.ceil(boxes[:, 2:]), low + 1, limit)
    return np.concatenate([low, high], axis=1).astype(np.int64)
