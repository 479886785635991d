"""Base class of zero-shot grounders: CLIP's towers, a prompt and observed boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from clipvg.data.inputs import ImageInput
from clipvg.data.letterbox import normalise
from clipvg.features.regions import (
    PROMPT,
    check_prompt,
    clip_preset,
    clip_tokenizer,
    encode_prompted,
)
from clipvg.grounders.grounder import Grounder
from clipvg.grounders.located import Located
from clipvg.model import create_model
from clipvg.model.backbone import Backbone
from clipvg.model.tokenizer import Tokenizer
from clipvg.pseudo.observation import Observation
from clipvg.pseudo.observations import ObservationTable
from clipvg.pseudo.reading import as_observations
from clipvg.runtime.distributed import Device, choose_device

NOT_OBSERVED = "no observations of this image"
NO_DETECTIONS = "nothing was detected in this image"


class ZeroShotGrounder(Grounder):
    """A grounder that uses CLIP alone, and optionally the boxes of a detector.

    Args:
        backbone: any that `create_model` takes.
        pretrained: its weights, as for `create_model`; None initialises them randomly.
        prompt: template with ``{}`` for the expression.
        observations: table of observations, or a file in any format that
            `clipvg.pseudo.read_observations` reads.
        device: where it runs; by default a CUDA GPU if there is one.
    """

    backbone: str = "ViT-B-16"
    pretrained: str | None = "openai"
    prompt: str = PROMPT
    observations: str | Path | ObservationTable | None = field(default=None, repr=False)
    device: Device = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_prompt(self.prompt)
        _ = self._seen  # load now: bad files and weights are refused on creation
        _ = self._towers

    @property
    def place(self) -> torch.device:
        """The device of CLIP."""
        return self._towers.clip.logit_scale.device

    @property
    def weights(self) -> str:
        """Identity of CLIP's weights and of the observations."""
        observed = "" if self._observed is None else self._observed.fingerprint()
        return f"{self._towers.image_key} {self._towers.text_key} {observed}"

    @cached_property
    def _towers(self) -> Backbone:
        made = create_model(self.backbone, self.pretrained, width=8, layers=1, heads=1)
        return made.backbone.to(choose_device(self.device))

    @cached_property
    def _observed(self) -> ObservationTable | None:
        return None if self.observations is None else as_observations(self.observations)

    @cached_property
    def _seen(self) -> Mapping[str, Observation] | None:
        return None if self._observed is None else {one.image: one for one in self._observed}

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return clip_tokenizer(self._towers, self.prompt)

    def name_of(self, image: ImageInput) -> str | None:
        """Return an image file's name in the observations: the longest matching end of its path."""
        if self._seen is None or not isinstance(image, str | Path):
            return None
        parts = Path(image).parts
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((end for end in ends if end in self._seen), str(image))

    def look(
        self,
        names: Sequence[str | None],
        images: Sequence[Image.Image],
        expressions: Sequence[Sequence[str]],
    ) -> list[Located]:
        """Locate the expressions of images among the boxes observed in them."""
        return [
            self._place(image, asked, *self._boxes(name, image.size))
            for name, image, asked in zip(names, images, expressions, strict=True)
        ]

    def locate(
        self, images: Sequence[Image.Image], expressions: Sequence[Sequence[str]]
    ) -> list[Located]:
        """Locate the expressions of images without observations."""
        return self.look([None] * len(images), images, expressions)

    def among(self, image: Image.Image, expressions: Sequence[str], boxes: np.ndarray) -> Located:
        """Locate expressions of one image among given boxes (K, 4), xyxy pixels."""
        return self._place(image, expressions, with_area(boxes, image.size), NO_DETECTIONS)

    def _boxes(self, name: str | None, size: tuple[int, int]) -> tuple[np.ndarray | None, str]:
        """Return an image's observed boxes (K, 4), None if unknown, and the reason for none."""
        if self._seen is None or name is None:
            return None, NOT_OBSERVED
        if name not in self._seen:
            return np.zeros((0, 4)), NOT_OBSERVED
        boxes = [one.box for one in self._seen[name].detections]
        return with_area(boxes, size), NO_DETECTIONS

    def _place(
        self, image: Image.Image, expressions: Sequence[str], boxes: np.ndarray | None, why: str
    ) -> Located:
        """Locate expressions of one image; `why` is the reason if there are no boxes."""
        raise NotImplementedError

    def _texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit-length embeddings of prompted texts, (T, E)."""
        return encode_prompted(self._towers, self._tokenizer, texts)

    def _pixels(self, image: Image.Image) -> Tensor:
        """Return an image squashed to CLIP's square and normalised, (3, S, S)."""
        side = self._towers.image_size
        small = image.resize((side, side), Image.Resampling.BICUBIC)
        return normalise(small, clip_preset(self._towers)).to(self.place)


def with_area(boxes: ArrayLike, size: tuple[int, int]) -> np.ndarray:
    """Return boxes (K, 4) clipped to an image, without those that end up empty."""
    cut = np.asarray(boxes, np.float64).reshape(-1, 4).clip(0, [*size, *size])
    return cut[(cut[:, 2:] > cut[:, :2]).all(1)]
