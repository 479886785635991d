"""Options of `clipvg observe`: the models that look at images, and their prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from clipvg.runtime.fields import check_fields

Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class ObserveOptions:
    """Models that look at images, their prompts and limits.

    Args:
        detector: detector of the classes it was trained on, such as facebook/detr-resnet-50.
        open_detector: detector of any named class, such as IDEA-Research/grounding-dino-tiny.
        classes: what the open detector looks for: words, or a text file with one class per line.
        captioner: writes a caption for each image, such as Salesforce/blip-image-captioning-base.
        describer: writes a description of each detection, from which the source region makes
            labels.
        attributes: clip adds colours, materials, patterns and sizes to the detections.
        backbone: the CLIP that names attributes: an open_clip model, or clipvg-tiny.
        pretrained: its weights, a tag or a file.
        caption_prompt: what to ask the captioner, by default what suits it.
        region_prompt: what to ask the describer, by default what suits it.
        min_score: lowest score of a detection that is kept.
        regions: largest number of detections of an image that are described, best first.
        max_new_tokens: largest number of tokens in a text.
        batch_size: images that a model sees at a time.
        precision: number type of the models; auto is fp32, but bf16 for models that write text, on
            a GPU.
    """

    detector: str | None = None
    open_detector: str | None = None
    classes: tuple[str, ...] = ()
    captioner: str | None = None
    describer: str | None = None
    attributes: Literal["clip"] | None = None
    backbone: str = "ViT-B-16"
    pretrained: str | None = "openai"
    caption_prompt: str | None = None
    region_prompt: str | None = None
    min_score: Annotated[float, (0, 1)] = 0.3
    regions: Annotated[int, (1, 10**4)] = 10
    max_new_tokens: Annotated[int, (1, 10**4)] = 40
    batch_size: Annotated[int, (1, 10**4)] = 8
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        """Refuse options that do not fit together."""
        check_fields(self, "how images are observed", further=list(self._faults()))

    def _faults(self) -> Iterator[str]:
        detects = self.detector or self.open_detector
        if not (detects or self.captioner):
            yield "nothing looks at the images; name a detector, an open_detector or a captioner"
        if self.open_detector and not self.classes:
            yield "open_detector needs classes; name what it looks for"
        if self.classes and not self.open_detector:
            yield "classes are what an open_detector looks for; name one, or leave them out"
        for option in ("describer", "attributes"):
            if getattr(self, option) and not detects:
                yield f"{option} needs detections; name a detector or an open_detector"
