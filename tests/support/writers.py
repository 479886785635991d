"""A stand-in for a text-generating model, whose answers a test decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from clipvg.observe.loading import Pretrained

Says = Callable[[str, Any], str | float]  # (question, image) -> text or P(yes)
END = 1


def stand_in(says: Says, *, model_type: str = "stand-in", **pixels: Any) -> Pretrained:
    """Return a model whose tokens are letters and which answers what `says` returns."""
    return Pretrained("stand-in", _Model(says, model_type), _Processor(pixels), "")


class _Prepared(dict):
    def to(self, _: object) -> _Prepared:
        return self


class _Processor:
    def __init__(self, pixels: dict[str, Any]) -> None:
        self.image_processor = SimpleNamespace(**pixels)
        self.tokenizer = SimpleNamespace(
            padding_side="right", pad_token="\0", eos_token="\1", bos_token=None, pad_token_id=0,
            encode=lambda text, **_: [ord(letter) for letter in text],
            decode=lambda tokens, **_: "".join(chr(token) for token in tokens),
        )  # fmt: skip

    def __call__(self, images: Sequence[Any], text: Sequence[str], **_: object) -> _Prepared:
        return _Prepared(images=images, texts=text)


class _Model:
    def __init__(self, says: Says, model_type: str) -> None:
        self.says = says
        self.config = SimpleNamespace(model_type=model_type, is_encoder_decoder=False)
        self.generation_config = SimpleNamespace(eos_token_id=END)
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def forward(self, images: Any, texts: Any) -> None:
        """Show which inputs the model takes; never called."""

    def generate(self, images: Any, texts: Any, *, max_new_tokens: int, **_: object) -> Any:
        said = [self.says(text, image) for text, image in zip(texts, images, strict=True)]
        chances = torch.zeros(len(said), max_new_tokens, 128)
        for row, what in enumerate(said):
            if isinstance(what, float):
                chances[row, :, [ord("y"), ord("n")]] = torch.tensor([what, 1 - what])
            else:
                tokens = [*map(ord, what), *[END] * max_new_tokens][:max_new_tokens]
                chances[row, range(max_new_tokens), tokens] = 1
        logits = chances.log().clamp(min=-100)
        asked = torch.zeros(len(said), 3, dtype=torch.long)
        sequences = torch.cat([asked, chances.argmax(-1)], 1)
        return SimpleNamespace(sequences=sequences, logits=tuple(logits.unbind(1)))
