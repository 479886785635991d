"""Write the tokenizer as ``tokenizer.json`` of Hugging Face's `tokenizers`, without Python code."""

from __future__ import annotations

from pathlib import Path

from clipvg.model.tokenizer import Tokenizer, byte_pairs

# The HTML entities that occur in captions.
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&amp;": "&"}
_FINAL_SIGMA = r"(?<=\p{L})Σ(?!\p{L})"


def write_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write a tokenizer with the same ids as ours, start, end, prefix and padding included.

    It truncates as ours does. Ids differ for wrongly decoded letters, which `ftfy` repairs, and for
    rare HTML entities. The prompt is not included: put the expression into it before tokenising.
    """
    import tokenizers
    from ftfy.chardata import DOUBLE_QUOTE_RE, LIGATURES, SINGLE_QUOTE_RE, WIDTH_MAP
    from tokenizers import Regex, normalizers, pre_tokenizers, processors

    preset, bpe = tokenizer.preset, byte_pairs(tokenizer.preset.special_names)
    merges = sorted(bpe.bpe_ranks, key=bpe.bpe_ranks.__getitem__)
    names = {token: name for name, token in bpe.encoder.items()}
    vocabulary = {name: token for token, name in names.items()}  # one name per id
    model = tokenizers.models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>")
    result = tokenizers.Tokenizer(model)
    letters = {**LIGATURES, **WIDTH_MAP}
    result.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(_FINAL_SIGMA), "ς"),
            normalizers.Lowercase(),
            *(normalizers.Replace(old, new) for old, new in _ENTITIES.items()),
            *(normalizers.Replace(chr(old), new) for old, new in letters.items()),
            normalizers.Replace(Regex(SINGLE_QUOTE_RE.pattern), "'"),
            normalizers.Replace(Regex(DOUBLE_QUOTE_RE.pattern), '"'),
            normalizers.NFC(),
            normalizers.Lowercase(),
        ]
    )
    words = bpe.pat.pattern
    if preset.special_names:
        special = [names[bpe.sot_token_id], names[bpe.eot_token_id]]
        result.add_special_tokens([tokenizers.AddedToken(n, normalized=True) for n in special])
    result.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"(?i:{words})"), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    start = [*tokenizer.prefix, bpe.sot_token_id]
    result.post_processor = processors.TemplateProcessing(
        single="start $A end",
        special_tokens=[
            {"id": "start", "ids": start, "tokens": [names[i] for i in start]},
            ("end", bpe.eot_token_id),
        ],
    )
    if preset.overlength == "truncate":
        result.enable_truncation(tokenizer.context_length)
    result.enable_padding(pad_id=0, pad_token=names[0])
    result.save(str(path))
