"""Regions of images and prompted expressions, as CLIP embeds them."""

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
_BLUR = 0.15  # deviation of the blur in long sides of the image: 100 pixels of 640, as ReCLIP's
_ENCODE_BATCH = 64  # regions held and encoded at once


def check_prompt(prompt: str) -> None:
    """Refuse a template without a place for the expression."""
    if "{}" not in prompt:
        raise InputError(f"prompt={prompt!r} has no '{{}}'; put it where the expression goes.")


def modes_of(mode: str) -> tuple[str, ...]:
    """Return what stands for a region, one or two of them."""
    return ("crop", "blur") if mode == "both" else (mode,)


def clip_preset(backbone: Backbone) -> Preset:
    """Return the rules by which CLIP itself reads: its own mean and deviation."""
    return get_preset("default", backbone.mean, backbone.std)


def clip_tokenizer(backbone: Backbone, prompt: str) -> Tokenizer:
    """Return the tokenizer of prompted expressions."""
    return Tokenizer(clip_preset(backbone), backbone.context_length, prompt=prompt)


def encode_prompted(backbone: Backbone, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Return the embeddings of length 1 of texts, (T, E) float32."""
    tokens = tokenizer(texts)[0].to(backbone.clip.logit_scale.device)
    return backbone.clip.encode_text(tokens, normalize=True).float()


def encode_regions(
    backbone: Backbone,
    shown: Iterable[tuple[Image.Image, np.ndarray]],
    modes: Sequence[str],
) -> Tensor:
    """Return the embeddings of length 1 of all regions of images, one after another.

    Args:
        backbone: CLIP.
        shown: images with their regions (K, 4): xyxy whole pixels inside the image, none empty.
        modes: what stands for a region: "crop", "blur".

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
    """Yield images that stand for regions (K, 4): xyxy whole pixels inside the image, none empty.

    "crop" cuts them out; "blur" is the image with everything but the box blurred. One is held at a
    time, for a photograph may have hundreds of boxes.
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
    """Return what CLIP multiplies similarities by."""
    return backbone.clip.logit_scale.float().exp()


def whole_pixels(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return boxes (K, 4) xyxy as whole pixels of an image (width, height), int64, none empty."""
    limit = np.array(size, dtype=np.float64)
    low = np.clip(np.floor(boxes[:, :2]), 0, limit - 1)
    high = np.clip(np.ceil(boxes[:, 2:]), low + 1, limit)
    return np.concatenate([low, high], axis=1).astype(np.int64)
