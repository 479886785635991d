"""Common parts of the tiny models: sizes, towers and tokenizers."""

from __future__ import annotations

import string
from typing import Any

WORDS = (
    "a photo of dog cat person car red small the on left detect what does image describe".split()
)
CLASSES = {0: "dog", 1: "cat", 2: "person", 3: "N/A"}
LAYERS = {
    "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "d_model": 32, "num_queries": 12,
}  # fmt: skip
TOWER = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
}  # fmt: skip


def resnet(**options: Any) -> Any:
    from transformers import ResNetConfig

    return ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        **options,
    )  # fmt: skip


def swin(**options: Any) -> Any:
    from transformers import SwinConfig

    return SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2],
        window_size=4, **options,
    )  # fmt: skip


def word_pieces() -> Any:
    from transformers import BertTokenizer

    letters = [*string.ascii_lowercase, *string.digits]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "?", "<", ">", "/"]
    pieces += [*letters, *(f"##{letter}" for letter in letters), *WORDS]
    return BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})


def clip_pairs(length: int = 16) -> Any:
    from transformers import CLIPTokenizer

    letters = string.ascii_lowercase + string.digits + ".,?<>/"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length)


def byte_pieces(**marks: str) -> Any:
    """Return a tokenizer of single bytes and special tokens, by default one for the image."""
    from tokenizers import pre_tokenizers
    from transformers import RobertaTokenizer

    marks = marks or {"image_token": "<image>"}
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *marks.values()]
    pieces += sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return RobertaTokenizer(
        vocab=vocabulary, merges=[], model_max_length=512, extra_special_tokens=marks,
    )  # fmt: skip
