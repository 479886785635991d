"""Zero-shot attributes of detections by CLIP on their crops: colour, material, pattern, size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipvg.errors import InputError
from clipvg.features.regions import (
    clip_tokenizer,
    encode_prompted,
    encode_regions,
    logit_scale,
    whole_pixels,
)
from clipvg.model.tokenizer import Tokenizer
from clipvg.model.zoo import create_model
from clipvg.pseudo.observation import Detection

WORDS: dict[str, tuple[str, ...]] = {
    "colour": (
        "red", "green", "blue", "yellow", "purple", "orange", "white", "black", "brown", "gray",
        "pink",
    ),
    "material": (
        "wooden", "metal", "plastic", "glass", "leather", "stone", "brick", "paper", "woven",
    ),
    "pattern": ("striped", "dotted", "checkered", "plaid", "floral"),
    "size": ("small", "large"),
}  # fmt: skip

# Lowest probabilities. Colours at or above theirs are right in 95 of 100 cases on scenes, as
# measured by `benchmarks/attributes.py`. The package's CLIP knows no patterns and scenes have no
# materials, so the others are set high without measurement.
LEAST: dict[str, float] = {"colour": 0.37, "material": 0.9, "pattern": 0.9, "size": 0.9}


class AttributeReader:
    """Zero-shot classifier by CLIP of a detection's colour, material, pattern and size.

    In each category the best word is kept if its probability is high enough. It is CLIP's softmax
    over "red dog", the same with the category's other words, and "dog" alone, which means no word.

    Args:
        backbone: open_clip's name of a CLIP, or ``clipvg-tiny``.
        pretrained: its weights, as for `create_model`.
        device: where it runs.
        words: words by category.
        least: lowest probability of a word by category.

    Raises:
        InputError: an unknown CLIP, unreachable weights, or a category without a lowest
            probability.
    """

    def __init__(
        self,
        backbone: str = "ViT-B-16",
        pretrained: str | None = "openai",
        *,
        device: str | torch.device = "cpu",
        words: Mapping[str, Sequence[str]] = WORDS,
        least: Mapping[str, float] = LEAST,
    ) -> None:
        if lacking := [category for category in words if category not in least]:
            raise InputError(f"no lowest probability for {lacking[0]!r}; add it to least")
        self._backbone = create_model(backbone, pretrained, layers=1).backbone.to(device)
        self._words = {category: ("", *some) for category, some in words.items()}
        self._least = dict(least)
        self._texts: dict[str, Tensor] = {}

    @property
    def identity(self) -> str:
        """What its answers depend on: weights, words and lowest probabilities."""
        back = self._backbone
        return f"{back.image_key} {back.text_key} {self._words} {self._least}"

    def describe(
        self, image: Image.Image, detections: Sequence[Detection]
    ) -> tuple[Detection, ...]:
        """Return the detections with their attributes that are likely enough."""
        if not detections:
            return ()
        found = self.probabilities(image, detections)
        return tuple(
            replace(one, attributes={**one.attributes, **self._said(row)})
            for one, row in zip(detections, found, strict=True)
        )

    @torch.inference_mode()
    def probabilities(
        self, image: Image.Image, detections: Sequence[Detection]
    ) -> list[dict[str, dict[str, float]]]:
        """Return each detection's CLIP probability of each word, by category; "" is no word."""
        cells = whole_pixels(np.array([one.box for one in detections]), image.size)
        (seen,) = encode_regions(self._backbone, [(image, cells)], ["crop"])  # (K, E)
        texts = torch.stack([self._embedded(one.name) for one in detections])  # (K, W, E)
        logits = torch.einsum("ke,kwe->kw", seen, texts) * logit_scale(self._backbone)
        parts = logits.cpu().split([len(words) for words in self._words.values()], dim=1)
        shares = [part.softmax(1).tolist() for part in parts]
        return [
            {
                category: dict(zip(words, share[number], strict=True))
                for (category, words), share in zip(self._words.items(), shares, strict=True)
            }
            for number in range(len(detections))
        ]

    def _said(self, found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        said = {}
        for category, shares in found.items():
            word = max(shares, key=lambda each: shares[each])
            if word and shares[word] >= self._least[category]:
                said[word] = round(shares[word], 4)
        return said

    def _embedded(self, name: str) -> Tensor:
        """Return unit-length embeddings of the class name after each of the words, (W, E)."""
        if name not in self._texts:
            asked = [f"{word} {name}".strip() for words in self._words.values() for word in words]
            self._texts[name] = encode_prompted(self._backbone, self._tokenizer, asked)
        return self._texts[name]

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return clip_tokenizer(self._backbone, "a photo of a {}")
