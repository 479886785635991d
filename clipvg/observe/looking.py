"""Run all observation models on batches of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

from clipvg.errors import InputError, one_line
from clipvg.observe.attributes import AttributeReader
from clipvg.observe.detect import Detector, OpenDetector
from clipvg.observe.loading import Kind, Pretrained, load_pretrained
from clipvg.observe.options import ObserveOptions
from clipvg.observe.write import Writer
from clipvg.pseudo.observation import UNOBSERVED, Candidate, Detection, Observation
from clipvg.pseudo.plane import overlap

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

SAME = 0.7  # IoU from which two boxes count as one object, and only the better is described
RULE = "described"


class Models:
    """The models that observe images; a captioner that is also the describer is loaded once.

    Args:
        options: the models and their prompts.
        device: where they run.

    Attributes:
        identity: weights, number type and device type of each model, by option.

    Raises:
        MissingExtraError: transformers is not installed.
        InputError: a model is not available, or of another kind.
    """

    def __init__(self, options: ObserveOptions, device: torch.device) -> None:
        self.options = options
        self.identity: dict[str, str] = {}

        def load(option: str, kind: Kind, make: Callable[[Pretrained], T]) -> T | None:
            name = getattr(options, option)
            if name is None:
                return None
            loaded = load_pretrained(name, kind, device=device, precision=options.precision)
            self.identity[option] = f"{loaded.identity} {loaded.model.dtype} {device.type}"
            return make(loaded)

        self.detector = load("detector", "detector", Detector)
        self.open_detector = load("open_detector", "open_detector", OpenDetector)
        self.captioner = load("captioner", "writer", Writer)
        if options.describer == options.captioner:
            self.describer = self.captioner
            self.identity |= {"describer": self.identity["captioner"]} if self.describer else {}
        else:
            self.describer = load("describer", "writer", Writer)
        self.attributes: AttributeReader | None = None
        if options.attributes:
            self.attributes = AttributeReader(options.backbone, options.pretrained, device=device)
            self.identity["attributes"] = f"{self.attributes.identity} {device.type}"

    def look(self, names: Sequence[str], images: Sequence[Image.Image]) -> list[Observation]:
        """Return the observations of some images, which the models process in one batch.

        If the batch fails, each image is processed alone; one that fails again gets the reason.

        Raises:
            torch.OutOfMemoryError, MemoryError: the memory is full.
            torch.AcceleratorError: the GPU fails, and would for every following image.
        """
        try:
            return self._look(names, images)
        except (torch.OutOfMemoryError, torch.AcceleratorError, MemoryError):
            raise
        except Exception as error:  # processors and models refuse images in many ways
            if len(names) == 1:
                return [unobserved(names[0], f"{names[0]}: {_why(error)}")]
        return [self.look([n], [i])[0] for n, i in zip(names, images, strict=True)]

    def _look(self, names: Sequence[str], images: Sequence[Image.Image]) -> list[Observation]:
        options = self.options
        found: list[tuple[Detection, ...]] = [() for _ in images]
        if self.detector:
            found = self.detector.detect(images, options.min_score)
        if self.open_detector:
            more = self.open_detector.detect(images, options.classes, options.min_score)
            found = [(*some, *others) for some, others in zip(found, more, strict=True)]
        if self.attributes:
            pairs = zip(images, found, strict=True)
            found = [self.attributes.describe(image, some) for image, some in pairs]
        captions = [""] * len(images)
        if self.captioner:
            most, prompt = options.max_new_tokens, options.caption_prompt
            captions = self.captioner.caption(images, prompt, most)
        return [
            Observation(
                name,
                image.width,
                image.height,
                detections,
                captions=(caption,) if caption else (),
                candidates=self._described(image, detections),
            )
            for name, image, detections, caption in zip(names, images, found, captions, strict=True)
        ]

    def _described(
        self, image: Image.Image, detections: tuple[Detection, ...]
    ) -> dict[str, tuple[Candidate, ...]]:
        """Return one description of each of the best boxes, as candidates of source `region`."""
        if self.describer is None:
            return {}
        options, made = self.options, []
        kept = best_boxes(detections, options.regions)
        for start in range(0, len(kept), options.batch_size):
            some = kept[start : start + options.batch_size]
            boxes = [detections[index].box for index in some]
            texts = self.describer.describe(
                image, boxes, options.region_prompt, options.max_new_tokens
            )
            for index, box, text in zip(some, boxes, texts, strict=True):
                if text:
                    made.append(Candidate(text, box, RULE, index))
        return {"region": tuple(made)} if made else {}


def best_boxes(detections: Sequence[Detection], most: int) -> list[int]:
    """Return sorted indices of the best detections, keeping only the best box of each object."""
    kept: list[int] = []
    for index in sorted(range(len(detections)), key=lambda i: (-detections[i].score, i)):
        box = detections[index].box
        if len(kept) < most and all(overlap(box, detections[k].box) < SAME for k in kept):
            kept.append(index)
    return sorted(kept)


def unobserved(name: str, why: str) -> Observation:
    """Return the observation of an image that could not be processed, with the reason."""
    return Observation(name, extra={UNOBSERVED: why})


def _why(error: Exception) -> str:
    text = one_line(error, 200)
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
