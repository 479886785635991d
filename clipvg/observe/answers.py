"""Questions about images to models that write, and how likely their answers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from clipvg.errors import InputError
from clipvg.observe.loading import Pretrained
from clipvg.observe.write import Writer

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
        self._writer = Writer(loaded)
        processor = loaded.processor
        # A chat template and Florence-2 place the image themselves.
        places = (
            getattr(processor, "chat_template", None)
            or loaded.model.config.model_type == "florence2"
        )
        self._image = "" if places else getattr(processor, "image_token", "")
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
        asked = [f"{self._image}{question}" for question in questions]
        _, made = self._writer.generate(
            images, asked, max_tokens, output_logits=True, return_dict_in_generate=True
        )
        logits = torch.stack(made.logits, 1).float()
        return made.sequences[:, -logits.shape[1] :], logits

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
