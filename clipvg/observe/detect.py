"""Object detectors of transformers: with fixed classes, and open-vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clipvg.errors import InputError
from clipvg.observe.loading import Pretrained
from clipvg.pseudo.observation import Detection
from clipvg.pseudo.plane import clip_box

if TYPE_CHECKING:
    from PIL import Image

_NO_CLASS = {"", "n/a", "no object", "background"}  # names of no class in configurations


class Detector:
    """A detector of the classes it was trained on, such as DETR, RT-DETR or D-FINE.

    Args:
        loaded: from `load_pretrained(name, "detector")`.
    """

    def __init__(self, loaded: Pretrained) -> None:
        self.loaded = loaded
        names = loaded.model.config.id2label
        self.names = {int(number): str(name) for number, name in names.items()}

    @torch.inference_mode()
    def detect(
        self, images: Sequence[Image.Image], min_score: float
    ) -> list[tuple[Detection, ...]]:
        """Return each image's detections with a score above `min_score`, best first."""
        loaded = self.loaded
        inputs = loaded.inputs(loaded.processor(images=list(images), return_tensors="pt"))
        outputs = in_float32(loaded.model(**inputs))
        found = loaded.processor.post_process_object_detection(
            outputs, threshold=min_score, target_sizes=_sizes(images)
        )
        return [
            _detections(each, [self.names.get(n, "") for n in each["labels"].tolist()], image)
            for each, image in zip(found, images, strict=True)
        ]


class OpenDetector:
    """An open-vocabulary detector, such as Grounding DINO, OWLv2 or OmDet-Turbo.

    Args:
        loaded: from `load_pretrained(name, "open_detector")`.
    """

    def __init__(self, loaded: Pretrained) -> None:
        self.loaded = loaded
        # Grounding DINO reads all classes as one text, and says which of its tokens a box matches.
        self._reads_one_text = hasattr(loaded.model.config, "max_text_len")

    @torch.inference_mode()
    def detect(
        self, images: Sequence[Image.Image], names: Sequence[str], min_score: float
    ) -> list[tuple[Detection, ...]]:
        """Return each image's detections with a score above `min_score`, best first.

        Args:
            images: B images.
            names: classes or expressions to look for in all images.
            min_score: lowest score.
        """
        parts = [self._detect(images, part, min_score) for part in self._fitting(names)]
        each = ([one for some in found for one in some] for found in zip(*parts, strict=True))
        return [tuple(sorted(found, key=lambda one: -one.score)) for found in each]

    def _fitting(self, names: Sequence[str]) -> Iterator[list[str]]:
        """Yield the names in parts that fit into the model's text input."""
        if not self._reads_one_text:
            yield list(names)
            return
        room = self.loaded.model.config.max_text_len - 2  # start and end tokens
        part: list[str] = []
        used = 0
        for name in names:
            tokens = len(self._tokenizer(f"{name}.", add_special_tokens=False)["input_ids"])
            if part and used + tokens > room:
                yield part
                part, used = [], 0
            part.append(name)
            used += tokens
        yield part

    @property
    def _tokenizer(self) -> Any:
        return self.loaded.processor.tokenizer

    def _detect(
        self, images: Sequence[Image.Image], names: list[str], min_score: float
    ) -> list[tuple[Detection, ...]]:
        loaded = self.loaded
        text: list[Any] = [names] * len(images)
        options: dict[str, Any] = {"truncation": True, "return_tensors": "pt"}
        if self._reads_one_text:  # a dot in a name would end it
            said = "".join(f"{name.replace('.', ' ').lower()}. " for name in names)
            text = [said] * len(images)
        prepared = loaded.processor(images=list(images), text=text, **options)
        inputs = loaded.inputs(prepared)
        outputs = in_float32(loaded.model(**inputs))
        if self._reads_one_text:
            return self._of_tokens(outputs, inputs["input_ids"], images, names, min_score)
        found = loaded.processor.post_process_grounded_object_detection(
            outputs, threshold=min_score, target_sizes=_sizes(images), text_labels=text
        )
        return [
            _detections(each, each["text_labels"], image)
            for each, image in zip(found, images, strict=True)
        ]

    def _of_tokens(
        self,
        outputs: Any,
        tokens: Tensor,
        images: Sequence[Image.Image],
        names: list[str],
        min_score: float,
    ) -> list[tuple[Detection, ...]]:
        """Return the detections for a text in which each name ends with a dot.

        The processor's own method joins all likely tokens into a phrase, which may mix two classes
        or have half a word; here a box gets the class that its likeliest token is part of.
        """
        dot = self._tokenizer.convert_tokens_to_ids(".")
        special = torch.tensor(sorted({*self._tokenizer.all_special_ids, dot}))
        is_name = ~torch.isin(tokens.cpu(), special)  # (B, T)
        number = (tokens.cpu() == dot).cumsum(1)  # (B, T) index of the name of each token
        logits = outputs.logits[..., : tokens.shape[1]]  # (B, Q, T); the rest is padding
        outputs.logits = logits.masked_fill(~is_name[:, None].to(logits.device), -torch.inf)
        found = self.loaded.processor.image_processor.post_process_object_detection(
            outputs, threshold=min_score, target_sizes=_sizes(images)
        )
        result = []
        for each, image, of_token in zip(found, images, number.tolist(), strict=True):
            places = [of_token[token] for token in each["labels"].tolist()]
            # a name too long for the text, which is then the last one, has its dot cut off
            called = [names[min(place, len(names) - 1)] for place in places]
            result.append(_detections(each, called, image))
        return result


def in_float32(outputs: Any) -> Any:
    """Return outputs with boxes and logits in float32, as post-processing needs."""
    for name in ("logits", "pred_boxes", "decoder_coord_logits", "decoder_class_logits"):
        if getattr(outputs, name, None) is not None:
            setattr(outputs, name, getattr(outputs, name).float())
    return outputs


def _sizes(images: Sequence[Image.Image]) -> list[tuple[int, int]]:
    return [(image.height, image.width) for image in images]


def _detections(
    found: dict[str, Any], names: Sequence[str], image: Image.Image
) -> tuple[Detection, ...]:
    """Return detections clipped to the image, best first, without no-class and empty ones."""
    boxes, scores = found["boxes"].cpu(), found["scores"].cpu()
    if not bool(boxes.isfinite().all() and scores.isfinite().all()):
        raise InputError("the detector gave boxes or scores that are not finite")
    kept = []
    for box, score, name in zip(boxes.tolist(), scores.tolist(), names, strict=True):
        x1, y1, x2, y2 = (round(edge, 2) for edge in box)
        inside = clip_box((x1, y1, x2, y2), image.width, image.height)
        if inside and name.strip().lower() not in _NO_CLASS:
            kept.append(Detection(name.strip(), inside, round(min(score, 1.0), 4)))
    return tuple(sorted(kept, key=lambda one: -one.score))
