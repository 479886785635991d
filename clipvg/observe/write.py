"""Transformers models that write text about images, and the probability of what they write."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from clipvg.errors import InputError
from clipvg.observe.loading import Pretrained
from clipvg.pseudo.observation import Box

if TYPE_CHECKING:
    from PIL import Image

CAPTION = "Describe this image in one sentence."
REGION = (
    "Describe the main object of this image so that it can be told from others like it, in a few "
    "words and no sentence, such as: man in a red shirt."
)
_CONTEXT = 0.1  # margin around a cropped region, in shares of its sides
_BINS = 1000  # bins per side of the image in Florence-2
_YES = ("yes", "Yes", "YES", " yes", " Yes", "true", "True")
_NO = ("no", "No", "NO", " no", " No", "false", "False")
_LEAST = 0.01  # lowest P(yes) + P(no): with less a model says something else


class Asked(NamedTuple):
    """Default prompts of a model."""

    caption: str | None
    region: str | None  # for a crop, but for Florence-2, which gets the box


_CHAT, _NOTHING = Asked(CAPTION, REGION), Asked(None, None)
_WITHOUT_CHAT = {
    "florence2": Asked("<CAPTION>", "<REGION_TO_DESCRIPTION>"),
    "paligemma": Asked("caption en", "caption en"),
    "kosmos-2": Asked("An image of", "An image of"),
}


class Answer(NamedTuple):
    """Answer that a model wrote."""

    text: str  # including location tokens such as <loc_12>
    probability: float  # geometric mean of its tokens' probabilities; NaN where it wrote nothing


class Writer:
    """A model that writes about images: captioner, vision-language model, or Florence-2.

    They are prompted in three ways: a model with a chat template gets a question, Florence-2,
    PaliGemma and Kosmos-2 get the prompts they were trained on, and captioners such as BLIP and GIT
    get nothing, or the beginning of the text.

    Args:
        loaded: from `load_pretrained(name, "writer")`.
    """

    def __init__(self, loaded: Pretrained) -> None:
        self.loaded = loaded
        self._type = loaded.model.config.model_type
        self._chats = bool(getattr(loaded.processor, "chat_template", None))
        self._is_decoder = not loaded.model.config.is_encoder_decoder
        tokenizer = loaded.processor.tokenizer
        if self._is_decoder:  # the output continues the prompt
            tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    def caption(
        self, images: Sequence[Image.Image], prompt: str | None = None, max_new_tokens: int = 40
    ) -> list[str]:
        """Return a caption of each image; the default prompt is the one that suits the model."""
        asked = prompt or self._usual.caption
        return self.write(images, [asked] * len(images), max_new_tokens)

    def describe(
        self,
        image: Image.Image,
        boxes: Sequence[Box],
        prompt: str | None = None,
        max_new_tokens: int = 40,
    ) -> list[str]:
        """Return a description of each box (xyxy pixels) of an image.

        Florence-2 gets the whole image and, unless a prompt is given, the box; other models get a
        crop of the box with a margin of a tenth of its sides.
        """
        asked = prompt or self._usual.region
        if self._type == "florence2" and prompt is None:
            prompts = [f"{asked}{_places(box, image.size)}" for box in boxes]
            return self.write([image] * len(boxes), prompts, max_new_tokens)
        crops = [image.crop(around(box, image.size)) for box in boxes]
        return self.write(crops, [asked] * len(boxes), max_new_tokens)

    def write(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[str | None],
        max_new_tokens: int = 40,
    ) -> list[str]:
        """Return the text that the model writes about each image and its prompt, in one batch.

        Decoding is greedy: the likeliest token is taken each time.

        Args:
            images: B images.
            prompts: B prompts, all None for a model that needs none.
            max_new_tokens: largest number of tokens to write.
        """
        if not images:
            return []
        inputs, tokens = self.generate(images, prompts, max_new_tokens)
        if self._is_decoder and self._repeats_prompt and "input_ids" in inputs:
            tokens = tokens[:, inputs["input_ids"].shape[1] :]
        texts = self.loaded.processor.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    @torch.inference_mode()
    def answer(
        self, images: Sequence[Image.Image], questions: Sequence[str], *, max_tokens: int
    ) -> list[Answer]:
        """Return the likeliest answer to each question about its image."""
        written, logits = self._answers(images, questions, max_tokens)  # (B, S), (B, S, V)
        chosen = logits.log_softmax(-1).gather(-1, written[..., None])[..., 0]  # (B, S)
        ends = torch.isin(written, self._ends())
        said = (ends.cumsum(1) == 0).cpu()  # (B, S) before the end
        tokenizer = self.loaded.processor.tokenizer
        return [
            Answer(
                tokenizer.decode(tokens[kept], skip_special_tokens=False),
                float(chances[kept].mean().exp()),
            )
            for tokens, chances, kept in zip(written.cpu(), chosen.cpu(), said, strict=True)
        ]

    @torch.inference_mode()
    def yes(self, images: Sequence[Image.Image], questions: Sequence[str]) -> np.ndarray:
        """Return P(yes) / (P(yes) + P(no)) of the first word of each answer, (B,) float32.

        It is NaN where the model would begin with another word, that is P(yes) + P(no) < 0.01.
        """
        ids_of_yes, ids_of_no = self._first_tokens
        if not ids_of_yes or not ids_of_no:
            raise InputError(
                f"model {self.loaded.name!r}: its tokens do not tell yes from no; name another "
                "model"
            )
        logits = self._answers(images, questions, 1)[1][:, 0]  # (B, V)
        chances = logits.softmax(-1)
        yes, no = (chances[:, ids].sum(1) for ids in (ids_of_yes, ids_of_no))  # (B,)
        share = torch.where(yes + no >= _LEAST, yes / (yes + no), torch.nan)
        return share.cpu().numpy().astype(np.float32)

    @torch.inference_mode()
    def generate(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[str | None],
        max_new_tokens: int,
        **options: bool,
    ) -> tuple[Any, Any]:
        """Return the model's input and the result of its ``generate`` with greedy decoding."""
        loaded = self.loaded
        inputs = loaded.inputs(self.prepare(images, prompts))
        if "token_type_ids" not in signature(loaded.model.forward).parameters:
            inputs.pop("token_type_ids", None)  # some tokenizers return them anyway
        made = loaded.model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            # with a cache, Kosmos-2 counts padding as positions before its next token
            use_cache=self._type != "kosmos-2",
            **dict.fromkeys(("temperature", "top_p", "top_k")),
            **options,
        )
        return inputs, made

    def prepare(self, images: Sequence[Image.Image], prompts: Sequence[str | None]) -> Any:
        """Return the model's input: images, each with its prompt."""
        processor = self.loaded.processor
        if self._chats:
            chats = [_chat(image, prompt) for image, prompt in zip(images, prompts, strict=True)]
            return processor.apply_chat_template(
                chats,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={"padding": True},
            )
        if any(prompt is None for prompt in prompts):
            return processor(images=list(images), return_tensors="pt")
        mark = self._image_mark
        marked = [str(prompt) if mark in str(prompt) else f"{mark}{prompt}" for prompt in prompts]
        prepared = processor(images=list(images), text=marked, padding=True, return_tensors="pt")
        if self._type == "git":  # without the end-of-text token
            for name in ("input_ids", "attention_mask"):
                prepared[name] = prepared[name][:, :-1]
        return prepared

    @property
    def _repeats_prompt(self) -> bool:
        """Whether the output repeats a prompt that is not part of the answer, e.g. image tokens."""
        has_mark = hasattr(self.loaded.processor, "image_token")
        return self._chats or has_mark or self._type in _WITHOUT_CHAT

    @property
    def _image_mark(self) -> str:
        """Placeholder of the image in a prompt; empty if the processor inserts it."""
        processor = self.loaded.processor
        places = self._type == "florence2" or hasattr(processor, "num_query_tokens")  # BLIP-2
        return "" if places else getattr(processor, "image_token", "")

    @cached_property
    def _first_tokens(self) -> list[list[int]]:
        """First tokens of the words for yes, and of those for no, without those they share."""
        encode = self.loaded.processor.tokenizer.encode
        yes, no = (
            {encode(word, add_special_tokens=False)[0] for word in words} for words in (_YES, _NO)
        )
        return [sorted(yes - no), sorted(no - yes)]

    def _answers(
        self, images: Sequence[Image.Image], questions: Sequence[str], max_tokens: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tokens that are written (B, S) and their logits (B, S, V) float32."""
        _, made = self.generate(
            images, questions, max_tokens, output_logits=True, return_dict_in_generate=True
        )
        logits = torch.stack(made.logits, 1).float()
        return made.sequences[:, -logits.shape[1] :], logits

    def _ends(self) -> torch.Tensor:
        ends = self.loaded.model.generation_config.eos_token_id
        ids = ends if isinstance(ends, list) else [ends]
        ids = [*ids, self.loaded.processor.tokenizer.pad_token_id]
        return torch.tensor([n for n in ids if n is not None], device=self.loaded.device)

    @property
    def _usual(self) -> Asked:
        return _CHAT if self._chats else _WITHOUT_CHAT.get(self._type, _NOTHING)


def around(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return a box with a margin of a tenth of its sides, in whole pixels inside the image."""
    x1, y1, x2, y2 = box
    across, down = _CONTEXT * (x2 - x1), _CONTEXT * (y2 - y1)
    left, top = max(0, int(x1 - across)), max(0, int(y1 - down))
    right, bottom = min(size[0], int(x2 + across) + 1), min(size[1], int(y2 + down) + 1)
    return min(left, right - 1), min(top, bottom - 1), right, bottom


def _places(box: Box, size: tuple[int, int]) -> str:
    """Return a box as location tokens of Florence-2."""
    bins = [
        min(_BINS - 1, max(0, int(edge * _BINS / side)))
        for edge, side in zip(box, size * 2, strict=True)
    ]
    return "".join(f"<loc_{place}>" for place in bins)


def _chat(image: Image.Image, prompt: str | None) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = [{"type": "image", "image": image}]
    if prompt:
        content.append({"type": "text", "text": prompt})
    return [{"role": "user", "content": content}]
