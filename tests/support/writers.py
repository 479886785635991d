"""Models that write: a stand-in that says what a test decides, and tiny ones of transformers."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from clipvg.observe.loading import Pretrained

Says = Callable[[str, Any], str | float]  # of a question and its image: a text, or P(yes)
END = 1


def stand_in(says: Says, *, model_type: str = "stand-in", **pixels: Any) -> Pretrained:
    """A model whose tokens are letters and which answers what `says` returns."""
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
        return _Prepared(images=[of[0] for of in images], texts=text)


class _Model:
    def __init__(self, says: Says, model_type: str) -> None:
        self.says = says
        self.config = SimpleNamespace(model_type=model_type, is_encoder_decoder=False)
        self.generation_config = SimpleNamespace(eos_token_id=END)
        self.device, self.dtype = torch.device("cpu"), torch.float32

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


def save_writer(name: str, folder: Path) -> str:
    """Write a tiny model of transformers with random weights; return the folder."""
    torch.manual_seed(0)
    for part in WRITERS[name]():
        part.save_pretrained(folder)
    return str(folder)


_TEXT = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def _letters(others: Sequence[str] = (), **marks: str) -> Any:
    """Tokens are letters, and marks by their name in the processor."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<unk>"]
    letters = [*string.ascii_letters, *string.digits, *string.punctuation, " "]
    vocabulary = dict.fromkeys([*special, *marks.values(), *others, *letters])
    numbered = {piece: number for number, piece in enumerate(vocabulary)}
    tokens = Tokenizer(models.BPE(vocab=numbered, merges=[], unk_token="<unk>"))
    tokens.decoder = decoders.Fuse()
    tokens.add_special_tokens([*marks.values(), *others])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        unk_token="<unk>", extra_special_tokens=marks,
    )  # fmt: skip


def _llava() -> tuple[Any, ...]:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = _letters(image_token="<image>")
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=32, patch_size=16,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(vocab_size=len(tokenizer), **_TEXT),
        image_token_index=tokenizer.image_token_id,
    )
    pixels = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, do_center_crop=True
    )
    processor = LlavaProcessor(
        pixels, tokenizer, patch_size=16, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config), processor


def _florence2() -> tuple[Any, ...]:
    from transformers import (
        BartConfig,
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
        Florence2VisionConfig,
    )

    tokenizer = _letters([f"<loc_{place}>" for place in range(1000)], image_token="<image>")
    vision = Florence2VisionConfig(
        depths=[1, 1, 1, 1], embed_dim=[8, 8, 16, 16], num_heads=[1, 1, 2, 2],
        num_groups=[1, 1, 2, 2], window_size=4, projection_dim=32,
    )  # fmt: skip
    text = BartConfig(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, forced_eos_token_id=None,
    )  # fmt: skip
    config = Florence2Config(
        vision_config=vision, text_config=text, image_token_id=tokenizer.image_token_id
    )
    pixels = CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
    pixels.image_seq_length = 5
    tasks = {"phrase_grounding": {"banned_grounding_tokens": []}, "pure_text": {}}
    processor = Florence2Processor(pixels, tokenizer, post_processor_config=tasks)
    return Florence2ForConditionalGeneration(config), processor


def _qwen() -> tuple[Any, ...]:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = _letters(
        image_token="<|image_pad|>", video_token="<|video_pad|>",
        vision_bos_token="<|vision_start|>", vision_eos_token="<|vision_end|>",
    )  # fmt: skip
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
    vision = {
        "depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2,
        "out_hidden_size": 32, "fullatt_block_indexes": [0], "patch_size": 14,
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config={
            **_TEXT, "vocab_size": len(tokenizer), "num_key_value_heads": 2, "rope_parameters": rope
        },
        vision_config=vision, image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        vision_start_token_id=tokenizer.vision_bos_token_id,
        vision_end_token_id=tokenizer.vision_eos_token_id,
    )  # fmt: skip
    pixels = Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=8 * 28 * 28)
    template = (
        "{% for turn in messages %}{{ turn['role'] }}: {% for part in turn['content'] %}"
        "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
        "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %} assistant: {% endif %}"
    )
    video = Qwen2VLVideoProcessor()
    processor = Qwen2_5_VLProcessor(pixels, tokenizer, video, chat_template=template)
    return Qwen2_5_VLForConditionalGeneration(config), processor


WRITERS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "llava": _llava,
    "florence2": _florence2,
    "qwen2_5_vl": _qwen,
}
