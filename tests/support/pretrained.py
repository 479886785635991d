"""Tiny models of transformers with random weights, through its own classes, in a folder."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

WORDS = (
    "a photo of dog cat person car red small the on left detect what does image describe".split()
)
CLASSES = {0: "dog", 1: "cat", 2: "person", 3: "N/A"}
_LAYERS = {
    "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "d_model": 32, "num_queries": 12,
}  # fmt: skip
_TOWER = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
}  # fmt: skip


def save(name: str, folder: Path) -> str:
    """Write a tiny model and its processor; return the folder."""
    torch.manual_seed(0)
    for part in MODELS[name]():
        part.save_pretrained(folder)
    return str(folder)


def _resnet(**options: Any) -> Any:
    from transformers import ResNetConfig

    return ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        **options,
    )  # fmt: skip


def _detr() -> tuple[Any, ...]:
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor

    config = DetrConfig(
        backbone_config=_resnet(out_features=["stage4"]), use_timm_backbone=False,
        id2label=CLASSES, **_LAYERS,
    )  # fmt: skip
    size = {"shortest_edge": 64, "longest_edge": 96}
    return DetrForObjectDetection(config), DetrImageProcessor(size=size)


def _rt_detr_options() -> dict[str, Any]:
    return {
        "encoder_in_channels": [8, 16, 16], "encoder_hidden_dim": 32,
        "decoder_in_channels": [32, 32, 32], "num_denoising": 0, "id2label": CLASSES,
        **_LAYERS,
    }  # fmt: skip


def _rt_detr() -> tuple[Any, ...]:
    from transformers import (
        RTDetrConfig,
        RTDetrForObjectDetection,
        RTDetrImageProcessor,
        RTDetrResNetConfig,
    )

    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_indices=[2, 3, 4],
    )  # fmt: skip
    config = RTDetrConfig(backbone_config=backbone, **_rt_detr_options())
    return RTDetrForObjectDetection(config), RTDetrImageProcessor(size={"height": 64, "width": 64})


def _d_fine() -> tuple[Any, ...]:
    from transformers import (
        DFineConfig,
        DFineForObjectDetection,
        HGNetV2Config,
        RTDetrImageProcessor,
    )

    backbone = HGNetV2Config(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1],
        stem_channels=[3, 8, 8], stage_in_channels=[8, 8, 8, 16], stage_mid_channels=[8] * 4,
        stage_out_channels=[8, 8, 16, 16], stage_num_blocks=[1] * 4, stage_numb_of_layers=[1] * 4,
        out_indices=[2, 3, 4], return_idx=[1, 2, 3],
    )  # fmt: skip
    options = {**_rt_detr_options(), "decoder_n_points": [2, 2, 2]}
    config = DFineConfig(backbone_config=backbone, **options)
    return DFineForObjectDetection(config), RTDetrImageProcessor(size={"height": 64, "width": 64})


def _word_pieces() -> Any:
    from transformers import BertTokenizer

    letters = [*string.ascii_lowercase, *string.digits]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "?", "<", ">", "/"]
    pieces += [*letters, *(f"##{letter}" for letter in letters), *WORDS]
    return BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})


def _clip_pairs(length: int = 16) -> Any:
    from transformers import CLIPTokenizer

    letters = string.ascii_lowercase + string.digits + ".,?<>/"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length)


def _swin(**options: Any) -> Any:
    from transformers import SwinConfig

    return SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2],
        window_size=4, **options,
    )  # fmt: skip


def _grounding_dino() -> tuple[Any, ...]:
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
    )

    tokenizer = _word_pieces()
    text = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    config = GroundingDinoConfig(
        backbone_config=_swin(out_indices=[2, 3, 4]), text_config=text, max_text_len=32,
        num_feature_levels=3, encoder_n_points=2, decoder_n_points=2, disable_custom_kernels=True,
        **_LAYERS,
    )  # fmt: skip
    pixels = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    return GroundingDinoForObjectDetection(config), GroundingDinoProcessor(pixels, tokenizer)


def _owlv2() -> tuple[Any, ...]:
    from transformers import (
        Owlv2Config,
        Owlv2ForObjectDetection,
        Owlv2ImageProcessor,
        Owlv2Processor,
    )

    tokenizer = _clip_pairs()
    config = Owlv2Config(
        text_config={
            **_TOWER, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={**_TOWER, "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )  # fmt: skip
    pixels = Owlv2ImageProcessor(size={"height": 64, "width": 64})
    model = Owlv2ForObjectDetection(config)
    torch.nn.init.zeros_(model.box_head.dense2.weight)  # boxes are cells of the raster, not points
    return model, Owlv2Processor(pixels, tokenizer)


def _omdet_turbo() -> tuple[Any, ...]:
    from transformers import (
        CLIPTextConfig,
        DetrImageProcessor,
        OmDetTurboConfig,
        OmDetTurboForObjectDetection,
        OmDetTurboProcessor,
    )

    tokenizer = _clip_pairs(77)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, projection_dim=48, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    config = OmDetTurboConfig(
        text_config=text, backbone_config=_swin(out_indices=[2, 3, 4]), image_size=64,
        text_projection_in_dim=48, text_projection_out_dim=48, task_encoder_hidden_dim=32,
        class_embed_dim=48, num_queries=12, encoder_hidden_dim=32, decoder_hidden_dim=32,
        vision_features_channels=[32, 32, 32], encoder_in_channels=[16, 32, 64],
        apply_layernorm_after_vision_backbone=False,
        encoder_attention_heads=2, encoder_dim_feedforward=32, decoder_num_heads=2,
        decoder_num_layers=1, decoder_dim_feedforward=32, decoder_num_points=2,
        disable_custom_kernels=True,
    )  # fmt: skip
    pixels = DetrImageProcessor(size={"height": 64, "width": 64}, do_pad=False)
    return OmDetTurboForObjectDetection(config), OmDetTurboProcessor(pixels, tokenizer)


def _blip() -> tuple[Any, ...]:
    from transformers import (
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    tokenizer = _word_pieces()
    text = {
        **_TOWER, "vocab_size": len(tokenizer), "encoder_hidden_size": 32, "projection_dim": 32,
        "bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id, "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": 64, "initializer_range": 0.5,
    }  # fmt: skip
    vision = {**_TOWER, "image_size": 32, "patch_size": 8, "initializer_range": 0.5}
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=32)
    pixels = BlipImageProcessor(size={"height": 32, "width": 32})
    return BlipForConditionalGeneration(config), BlipProcessor(pixels, tokenizer)


def _git() -> tuple[Any, ...]:
    from transformers import CLIPImageProcessor, GitConfig, GitForCausalLM, GitProcessor

    tokenizer = _word_pieces()
    config = GitConfig(
        vision_config={**_TOWER, "image_size": 32, "patch_size": 8}, vocab_size=len(tokenizer),
        bos_token_id=tokenizer.cls_token_id, eos_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id, max_position_embeddings=64, initializer_range=0.5,
        **_TOWER,
    )  # fmt: skip
    pixels = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return GitForCausalLM(config), GitProcessor(pixels, tokenizer)


def _bytes(**marks: str) -> Any:
    """A tokenizer of single bytes, and of marks, by default one that stands for the image."""
    from tokenizers import pre_tokenizers
    from transformers import RobertaTokenizer

    marks = marks or {"image_token": "<image>"}
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *marks.values()]
    pieces += sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return RobertaTokenizer(
        vocab=vocabulary, merges=[], model_max_length=512, extra_special_tokens=marks,
    )  # fmt: skip


def _florence_2() -> tuple[Any, ...]:
    from transformers import (
        BartConfig,
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
    )

    tokenizer = _bytes()
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
    pixels.image_seq_length = 5  # a raster of 2 x 2, and its mean
    tasks = {"phrase_grounding": {"banned_grounding_tokens": []}}
    processor = Florence2Processor(pixels, tokenizer, post_processor_config=tasks)
    return Florence2ForConditionalGeneration(config), processor


_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def _llava() -> tuple[Any, ...]:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = _bytes()
    vision = CLIPVisionConfig(**_TOWER, image_size=32, patch_size=8)
    text = LlamaConfig(
        **_TOWER, vocab_size=len(tokenizer), max_position_embeddings=512, initializer_range=0.5,
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


def _qwen() -> tuple[Any, ...]:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = _bytes(
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
            **_TOWER, "vocab_size": len(tokenizer), "num_key_value_heads": 2, "pad_token_id": 1,
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


def _paligemma() -> tuple[Any, ...]:
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
        SiglipVisionConfig,
    )

    tokenizer = _bytes()
    pixels = SiglipImageProcessor(size={"height": 32, "width": 32})
    pixels.image_seq_length = 4  # patches
    processor = PaliGemmaProcessor(pixels, tokenizer)  # brings marks of places
    text = GemmaConfig(
        **_TOWER, vocab_size=len(tokenizer), num_key_value_heads=1, head_dim=16, pad_token_id=1,
        bos_token_id=0, eos_token_id=2, initializer_range=0.5,
    )  # fmt: skip
    config = PaliGemmaConfig(
        text_config=text, projection_dim=32, hidden_size=32, vocab_size=len(tokenizer),
        vision_config=SiglipVisionConfig(**_TOWER, image_size=32, patch_size=16),
        image_token_index=tokenizer.image_token_id,
    )  # fmt: skip
    return PaliGemmaForConditionalGeneration(config), processor


def _kosmos_2() -> tuple[Any, ...]:
    from transformers import (
        CLIPImageProcessor,
        Kosmos2Config,
        Kosmos2ForConditionalGeneration,
        Kosmos2Processor,
    )

    tokenizer = _bytes()
    square = {"height": 32, "width": 32}
    pixels = CLIPImageProcessor(size=square, crop_size=square)
    processor = Kosmos2Processor(pixels, tokenizer)  # brings marks of places
    text = {
        "vocab_size": len(tokenizer), "embed_dim": 32, "layers": 1, "ffn_dim": 32,
        "attention_heads": 2, "max_position_embeddings": 512, "init_std": 0.5,
    }  # fmt: skip
    vision = {**_TOWER, "image_size": 32, "patch_size": 8}
    config = Kosmos2Config(text_config=text, vision_config=vision)
    return Kosmos2ForConditionalGeneration(config), processor


MODELS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "detr": _detr,
    "rt-detr": _rt_detr,
    "d-fine": _d_fine,
    "grounding-dino": _grounding_dino,
    "owlv2": _owlv2,
    "omdet-turbo": _omdet_turbo,
    "blip": _blip,
    "git": _git,
    "florence-2": _florence_2,
    "llava": _llava,
    "qwen2.5-vl": _qwen,
    "paligemma": _paligemma,
    "kosmos-2": _kosmos_2,
}
WRITERS = ("florence-2", "llava", "qwen2.5-vl", "paligemma", "kosmos-2")
