"""Grounders whose models are those of Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from functools import cached_property
from typing import TYPE_CHECKING, get_args

from clipvg.grounders.grounder import Grounder
from clipvg.grounders.located import Located
from clipvg.grounders.vlm import PROMPT
from clipvg.measures.common.options import at_least, one_of
from clipvg.observe.loading import Kind, Pretrained, load_pretrained
from clipvg.observe.options import Precision
from clipvg.runtime.distributed import choose_device

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from clipvg.grounders.detector import DetectorLocator
    from clipvg.grounders.vlm import WriterLocator


class _Pretrained(Grounder):
    """A grounder of transformers.

    Args:
        model: hub name, or folder.
        device: where it runs; a CUDA GPU where there is one, else the CPU, when None.
        precision: "auto" is fp32 on a CPU, else bf16; or "fp32", "bf16", "fp16".
        batch_size: expressions in one pass.
    """

    model: str = field(kw_only=False)
    device: str | None = None
    precision: Precision = one_of("auto", get_args(Precision))
    batch_size: int = at_least(8, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.locator  # a model that cannot be had is refused now

    @property
    def locator(self) -> DetectorLocator | WriterLocator:
        """What places expressions."""
        raise NotImplementedError

    def _load(self, kind: Kind) -> Pretrained:
        device = choose_device(self.device)
        return load_pretrained(self.model, kind, device=device, precision=self.precision)

    @property
    def place(self) -> torch.device:
        """The device of the model."""
        return self.locator.loaded.device

    @property
    def weights(self) -> str:
        """The hub's commit, or the folder's files; and the number type."""
        return f"{self.locator.loaded.identity} {self.locator.loaded.model.dtype}"

    def locate(
        self, images: Sequence[Image.Image], expressions: Sequence[Sequence[str]]
    ) -> list[Located]:
        """Place the expressions of each image."""
        return self.locator.locate(images, expressions)


class Detector(_Pretrained):
    """An open-vocabulary detector: Grounding DINO, OWLv2, OmDet-Turbo and their like.

    The best of all its boxes answers an expression, and the score is what the detector gives it.
    """

    name: str = "detector"

    @cached_property
    def locator(self) -> DetectorLocator:
        """What places expressions."""
        from clipvg.grounders.detector import DetectorLocator

        return DetectorLocator(self._load("open_detector"), batch_size=self.batch_size)


class VisionLanguageModel(_Pretrained):
    """A model that answers with a box in text: a vision-language model, or Florence-2.

    The first box of an answer counts; the score is the mean probability of the answer's tokens.

    Args:
        unit: of boxes, "pixel" (of the image as the model sees it), "unit" or "thousand"; what the
            type of model writes when None.
        prompt: template with ``{expression}``, and perhaps ``{unit}``; Florence-2 has its own.
        max_tokens: longest answer.
    """

    name: str = "vlm"
    unit: str | None = None
    prompt: str = PROMPT
    max_tokens: int = at_least(64, 1)

    @cached_property
    def locator(self) -> WriterLocator:
        """What places expressions."""
        from clipvg.grounders.vlm import WriterLocator

        return WriterLocator(
            self._load("writer"),
            unit=self.unit,
            prompt=self.prompt,
            max_tokens=self.max_tokens,
            batch_size=self.batch_size,
        )
