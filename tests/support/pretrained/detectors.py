"""Tiny detectors, of fixed classes or of any words."""

from __future__ import annotations

from typing import Any

import torch

from support.pretrained.parts import CLASSES, LAYERS, TOWER, clip_pairs, resnet, swin, word_pieces


def detr() -> tuple[Any, ...]:
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor

    config = DetrConfig(
        backbone_config=resnet(out_features=["stage4"]), use_timm_backbone=False,
        id2label=CLASSES, **LAYERS,
    )  # fmt: skip
    size = {"shortest_edge": 64, "longest_edge": 96}
    return DetrForObjectDetection(config), DetrImageProcessor(size=size)


def _rt_detr_options() -> dict[str, Any]:
    return {
        "encoder_in_channels": [8, 16, 16], "encoder_hidden_dim": 32,
        "decoder_in_channels": [32, 32, 32], "num_denoising": 0, "id2label": CLASSES,
        **LAYERS,
    }  # fmt: skip


def rt_detr() -> tuple[Any, ...]:
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


def d_fine() -> tuple[Any, ...]:
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


def grounding_dino() -> tuple[Any, ...]:
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
    )

    tokenizer = word_pieces()
    text = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    config = GroundingDinoConfig(
        backbone_config=swin(out_indices=[2, 3, 4]), text_config=text, max_text_len=32,
        num_feature_levels=3, encoder_n_points=2, decoder_n_points=2, disable_custom_kernels=True,
        **LAYERS,
    )  # fmt: skip
    pixels = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    return GroundingDinoForObjectDetection(config), GroundingDinoProcessor(pixels, tokenizer)


def owlv2() -> tuple[Any, ...]:
    from transformers import (
        Owlv2Config,
        Owlv2ForObjectDetection,
        Owlv2ImageProcessor,
        Owlv2Processor,
    )

    tokenizer = clip_pairs()
    config = Owlv2Config(
        text_config={
            **TOWER, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={**TOWER, "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )  # fmt: skip
    pixels = Owlv2ImageProcessor(size={"height": 64, "width": 64})
    model = Owlv2ForObjectDetection(config)
    torch.nn.init.zeros_(model.box_head.dense2.weight)  # boxes are cells of the grid, not points
    return model, Owlv2Processor(pixels, tokenizer)


def omdet_turbo() -> tuple[Any, ...]:
    from transformers import (
        CLIPTextConfig,
        DetrImageProcessor,
        OmDetTurboConfig,
        OmDetTurboForObjectDetection,
        OmDetTurboProcessor,
    )

    tokenizer = clip_pairs(77)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, projection_dim=48, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    config = OmDetTurboConfig(
        text_config=text, backbone_config=swin(out_indices=[2, 3, 4]), image_size=64,
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
