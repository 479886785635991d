"""Questions about images to models that write, and how likely their answers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from clipvg.errors import InputError
from clipvg.observe.loading import Pretrained

if TYPE_CHECKING:
    from PIL import Image

_YES = ("yes", "Yes", "YES", " yes", " Yes", "true", "True")
_NO = ("no", "No", "NO", " no", " No", "false", "False")
_LEAST = 0.01  # of P(yes) + P(no): with less a model says something else


class Answer(NamedTuple):
    """What a model wrote."""

    text: str  # marks of places included, as <loc_12>
    probability: float  # geometric mean of its tokens' probabilities; NaN where it wrote nothing


class Answerer:
    """A model that writes about images: a vision-language model, or Florence-2.

    Args:
        loaded: from `load_pretrained(name, "writer")`.
    """

    def __init__(self, loaded: Pretrained) -> None:
        self.loaded = loaded
        tokenizer = loaded.processor.tokenizer
        if not loaded.model.config.is_encoder_decoder:
            tokenizer.padding_side = "left"  # what is written follows the question
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._yes, self._no = self._first_tokens(_YES, _NO)

    @torch.inference_mode()
    def answer(
        self, images: Sequence[Image.Image], questions: Sequence[str], *, max_tokens: int
    ) -> list[Answer]:
        """Return the likeliest answer to each question about its image."""
        written, logits = self._write(images, questions, max_tokens)  # (B, S), (B, S, V)
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

        It is NaN where the model would begin with another word.
        """
        if not self._yes or not self._no:
            raise InputError(
                f"model {self.loaded.name!r}: its tokens do not tell yes from no; name another "
                "model"
            )
        logits = self._write(images, questions, 1)[1][:, 0]  # (B, V)
        chances = logits.softmax(-1)
        yes, no = (chances[:, ids].sum(1) for ids in (self._yes, self._no))  # (B,)
        share = torch.where(yes + no >= _LEAST, yes / (yes + no), torch.nan)
        return share.cpu().numpy().astype(np.float32)

    def _write(
        self, images: Sequence[Image.Image], questions: Sequence[str], max_tokens: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write greedily; return tokens (B, S) and their logits (B, S, V) float32."""
        made = self.loaded.model.generate(
            **self.loaded.inputs(self._prepared(images, questions)),
            max_new_tokens=max_tokens,
            do_sample=False,
            num_beams=1,
            output_logits=True,
            return_dict_in_generate=True,
        )
        logits = torch.stack(made.logits, 1).float()
        return made.sequences[:, -logits.shape[1] :], logits

    def _prepared(self, images: Sequence[Image.Image], questions: Sequence[str]) -> Any:
        processor = self.loaded.processor
        texts, more = list(questions), {}
        if getattr(processor, "chat_template", None):
            texts = processor.apply_chat_template(
                [_turn(question) for question in questions], add_generation_prompt=True
            )
            begins = processor.tokenizer.bos_token
            more = {"add_special_tokens": not (begins and texts[0].startswith(begins))}
        elif not hasattr(processor, "post_process_generation"):  # these place the image themselves
            texts = [f"{getattr(processor, 'image_token', '')}{question}" for question in questions]
        return processor(
            images=[[image] for image in images],
            text=texts,
            padding=True,
            return_tensors="pt",
            **more,
        )

    def _ends(self) -> torch.Tensor:
        ends = self.loaded.model.generation_config.eos_token_id
        ids = ends if isinstance(ends, list) else [ends]
        ids = [*ids, self.loaded.processor.tokenizer.pad_token_id]
        return torch.tensor([n for n in ids if n is not None], device=self.loaded.device)

    def _first_tokens(self, *groups: Sequence[str]) -> list[list[int]]:
        """Return the first tokens of the words of each group that no other group has."""
        encode = self.loaded.processor.tokenizer.encode
        firsts = [{encode(word, add_special_tokens=False)[0] for word in words} for words in groups]
        return [sorted(own.difference(*(o for o in firsts if o is not own))) for own in firsts]


def _turn(question: str) -> list[dict[str, Any]]:
    content = [{"type": "image"}, {"type": "text", "text": question}]
    return [{"role": "user", "content": content}]
