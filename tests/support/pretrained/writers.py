"""Tiny text-generating models: captioners, and models that follow a prompt."""

from __future__ import annotations

from typing import Any

from support.pretrained.parts import TOWER, byte_pieces, word_pieces

_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def blip() -> tuple[Any, ...]:
    from transformers import (
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    tokenizer = word_pieces()
    text = {
        **TOWER, "vocab_size": len(tokenizer), "encoder_hidden_size": 32, "projection_dim": 32,
        "bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id, "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": 64, "initializer_range": 0.5,
    }  # fmt: skip
    vision = {**TOWER, "image_size": 32, "patch_size": 8, "initializer_range": 0.5}
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=32)
    pixels = BlipImageProcessor(size={"height": 32, "width": 32})
    return BlipForConditionalGeneration(config), BlipProcessor(pixels, tokenizer)


def git() -> tuple[Any, ...]:
    from transformers import CLIPImageProcessor, GitConfig, GitForCausalLM, GitProcessor

    tokenizer = word_pieces()
    config = GitConfig(
        vision_config={**TOWER, "image_size": 32, "patch_size": 8}, vocab_size=len(tokenizer),
        bos_token_id=tokenizer.cls_token_id, eos_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id, max_position_embeddings=64, initializer_range=0.5,
        **TOWER,
    )  # fmt: skip
    pixels = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return GitForCausalLM(config), GitProcessor(pixels, tokenizer)


def florence_2() -> tuple[Any, ...]:
    from transformers import (
        BartConfig,
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
    )

    tokenizer = byte_pieces()
    text = BartConfig(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=2,
        decoder_attention_heads=2, max_position_embeddings=512, init_std=0.5,
    )  # fmt: skip
    vision = {
        "depths": [1] * 4, "embed_dim": [8, 8, 16, 16], "num_heads": [1, 1, 2, 2],
        "num_groups": [1, 1, 2, 2], "window_size": 4, "projection_dim": 32,
    }  # fmt: skip
    config = Florence2Config(
        text_config=text, vision_config=vision, image_token_id=tokenizer.image_token_id
    )
    pixels = CLIPImageProcessor(
        size={"height": 64, "width": 64}, do_center_crop=False, image_seq_length=5
    )
    pixels.image_seq_length = 5  # a grid of 2 x 2, and its mean
    tasks: dict[str, Any] = {"phrase_grounding": {"banned_grounding_tokens": []}}
    processor = Florence2Processor(pixels, tokenizer, post_processor_config=tasks)
    return Florence2ForConditionalGeneration(config), processor


def llava() -> tuple[Any, ...]:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = byte_pieces()
    vision = CLIPVisionConfig(**TOWER, image_size=32, patch_size=8)
    text = LlamaConfig(
        **TOWER, vocab_size=len(tokenizer), max_position_embeddings=512, initializer_range=0.5,
        pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=tokenizer.image_token_id,
        vision_feature_layer=-1,
    )  # fmt: skip
    pixels = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        pixels, tokenizer, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=_TEMPLATE,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config), processor


def qwen() -> tuple[Any, ...]:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = byte_pieces(
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
            **TOWER, "vocab_size": len(tokenizer), "num_key_value_heads": 2, "pad_token_id": 1,
            "bos_token_id": 0, "eos_token_id": 2, "initializer_range": 0.5,
            "rope_parameters": rope,
        },
        vision_config=vision, image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        vision_start_token_id=tokenizer.vision_bos_token_id,
        vision_end_token_id=tokenizer.vision_eos_token_id,
    )  # fmt: skip
    pixels = Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=8 * 28 * 28)
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    template = _TEMPLATE.replace("<image>", image)
    video = Qwen2VLVideoProcessor()
    processor = Qwen2_5_VLProcessor(pixels, tokenizer, video, chat_template=template)
    return Qwen2_5_VLForConditionalGeneration(config), processor


def paligemma() -> tuple[Any, ...]:
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
        SiglipVisionConfig,
    )

    tokenizer = byte_pieces()
    pixels = SiglipImageProcessor(size={"height": 32, "width": 32})
    pixels.image_seq_length = 4  # patches
    processor = PaliGemmaProcessor(pixels, tokenizer)  # adds location tokens
    text = GemmaConfig(
        **TOWER, vocab_size=len(tokenizer), num_key_value_heads=1, head_dim=16, pad_token_id=1,
        bos_token_id=0, eos_token_id=2, initializer_range=0.5,
    )  # fmt: skip
    config = PaliGemmaConfig(
        text_config=text, projection_dim=32, hidden_size=32, vocab_size=len(tokenizer),
        vision_config=SiglipVisionConfig(**TOWER, image_size=32, patch_size=16),
        image_token_index=tokenizer.image_token_id,
    )  # fmt: skip
    return PaliGemmaForConditionalGeneration(config), processor


def kosmos_2() -> tuple[Any, ...]:
    from transformers import (
        CLIPImageProcessor,
        Kosmos2Config,
        Kosmos2ForConditionalGeneration,
        Kosmos2Processor,
    )

    tokenizer = byte_pieces()
    square = {"height": 32, "width": 32}
    pixels = CLIPImageProcessor(size=square, crop_size=square)
    processor = Kosmos2Processor(pixels, tokenizer)  # adds location tokens
    text = {
        "vocab_size": len(tokenizer), "embed_dim": 32, "layers": 1, "ffn_dim": 32,
        "attention_heads": 2, "max_position_embeddings": 512, "init_std": 0.5,
    }  # fmt: skip
    vision = {**TOWER, "image_size": 32, "patch_size": 8}
    config = Kosmos2Config(text_config=text, vision_config=vision)
    return Kosmos2ForConditionalGeneration(config), processor
