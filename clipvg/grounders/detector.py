"""Open-vocabulary detectors as grounders: the box that fits an expression best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from clipvg.grounders.located import Located
from clipvg.grounders.pretrained import PretrainedGrounder
from clipvg.observe.detect import in_float32
from clipvg.observe.loading import Kind

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")


class Detector(PretrainedGrounder):
    """An open-vocabulary detector, such as Grounding DINO, OWLv2 or OmDet-Turbo.

    An expression is answered with the detector's best box and that box's score. OWLv2 looks for a
    batch of expressions in one pass, as it scores each independently. The others would mix them, so
    each has a pass of its own; their image tower still encodes an image once per batch.
    """

    kind: ClassVar[Kind] = "open_detector"
    name: str = "detector"

    @torch.inference_mode()
    def locate(
        self, images: Sequence[Image.Image], expressions: Sequence[Sequence[str]]
    ) -> list[Located]:
        """Return the best box for each expression of each image; scores are sigmoids."""
        found = [Located.nothing(len(asked)) for asked in expressions]
        for number, (image, asked) in enumerate(zip(images, expressions, strict=True)):
            texts = [self._text(expression) for expression in asked]
            lengths = [len(self._tokenizer(text, verbose=False)["input_ids"]) for text in texts]
            fits = [place for place, length in enumerate(lengths) if length <= self._room]
            for place in set(range(len(asked))) - set(fits):
                why = f"{asked[place][:40]!r}… has {lengths[place]} tokens, more than {self._room}"
                found[number].reasons[place] = why
            for start in range(0, len(fits), self.batch_size):
                places = fits[start : start + self.batch_size]
                boxes, scores = self._best(image, [texts[place] for place in places])
                found[number].put(places, boxes, scores, image.size)
        return found

    @cached_property
    def _reads_one_text(self) -> bool:
        return hasattr(self.loaded.model.config, "max_text_len")  # Grounding DINO

    @cached_property
    def _tower(self) -> nn.Module | None:
        """The image tower that all expressions share; None for OWLv2, which needs one pass."""
        model = self.loaded.model
        if self._reads_one_text:
            return model.model.backbone
        return getattr(model, "vision_backbone", None)

    @cached_property
    def _room(self) -> int:
        """The largest number of tokens of an expression."""
        config = self.loaded.model.config
        if self._reads_one_text:
            return config.max_text_len
        return config.text_config.max_position_embeddings

    @property
    def _tokenizer(self) -> Any:
        return self.loaded.processor.tokenizer

    def _text(self, expression: str) -> str:
        # Grounding DINO separates phrases by dots
        return expression.replace(".", " ").lower() + "." if self._reads_one_text else expression

    def _best(self, image: Image.Image, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the best boxes (E, 4) xyxy pixels of an image and their scores (E,)."""
        if self._tower is None:
            outputs = self._run(image, [texts])
            logits, boxes = outputs.logits[0].T, outputs.pred_boxes[0]  # (E, P), (P, 4)
            best = logits.argmax(1)
            return self._pixels(boxes[best], image), _sure(logits, best)
        with encoded_once(self._tower):
            outputs = self._run(image, texts if self._reads_one_text else [[t] for t in texts])
        if self._reads_one_text:
            words = self._words(outputs.input_ids)  # (E, T)
            logits = outputs.logits[..., : words.shape[1]]  # (E, Q, T); the rest is padding
            logits = logits.masked_fill(~words[:, None], -torch.inf).amax(-1)  # (E, Q)
            boxes = outputs.pred_boxes  # (E, Q, 4)
        else:
            logits, boxes = outputs.decoder_class_logits[..., 0], outputs.decoder_coord_logits
        best = logits.argmax(1)
        return self._pixels(boxes[torch.arange(len(best)), best], image), _sure(logits, best)

    def _run(self, image: Image.Image, texts: list[str] | list[list[str]]) -> Any:
        """Return the model's output for an image with each of several texts, in float32."""
        prepared = self.loaded.processor(
            images=[image], text=texts, padding=True, return_tensors="pt"
        )
        inputs = self.loaded.inputs(prepared)
        for name in ("pixel_values", "pixel_mask"):
            if name in inputs:
                inputs[name] = inputs[name].expand(len(texts), *inputs[name].shape[1:])
        return in_float32(self.loaded.model(**inputs))

    def _words(self, tokens: Tensor) -> Tensor:
        """Return which tokens (E, T) belong to an expression: no special tokens and no dots."""
        dot = self._tokenizer.convert_tokens_to_ids(".")
        special = torch.tensor([*self._tokenizer.all_special_ids, dot], device=tokens.device)
        unknown = tokens == self._tokenizer.unk_token_id
        return ~torch.isin(tokens, special) | unknown

    def _pixels(self, boxes: Tensor, image: Image.Image) -> np.ndarray:
        """Convert boxes (E, 4), cxcywh as shares of the model's input, to xyxy pixels."""
        # The processor knows its padding; as the only box of an image, each box is kept.
        outputs = SimpleNamespace(
            logits=torch.zeros(len(boxes), 1, 2), pred_boxes=boxes.cpu()[:, None]
        )
        sizes = [(image.height, image.width)] * len(boxes)
        found = self.loaded.processor.image_processor.post_process_object_detection(
            outputs, threshold=0.0, target_sizes=sizes
        )
        return torch.cat([each["boxes"] for each in found]).numpy().reshape(-1, 4)


def _sure(logits: Tensor, best: Tensor) -> np.ndarray:
    return logits.gather(1, best[:, None])[:, 0].sigmoid().cpu().numpy()


@contextmanager
def encoded_once(tower: nn.Module) -> Iterator[None]:
    """Let an image tower encode only the first image of a batch, all of whose images are equal."""
    encode = tower.forward

    def forward(*batch: Tensor) -> Any:
        found = encode(*(inputs[:1] for inputs in batch))
        return _each(found, lambda tensor: tensor.expand(len(batch[0]), *tensor.shape[1:]))

    tower.forward = forward
    try:
        yield
    finally:
        del tower.forward


def _each(found: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(found, Tensor):
        return change(found)
    return type(found)(_each(part, change) for part in found)
