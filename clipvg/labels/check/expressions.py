"""Find expressions that are too long, not English, repeated, or have several boxes in an image."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipvg.labels.box_column import as_mask
from clipvg.labels.check.finding import Finding, show_box
from clipvg.labels.schema import encode_names
from clipvg.labels.table import LabelTable

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

MAX_TOKENS = 77  # CLIP's context length, start and end tokens included
READ = 4000  # characters, more than so many tokens have: a word as long as a book takes hours
_DROPPED = r"[\x00-\x08\x0b\x0e-\x1f\x7f\x{fffd}\x{feff}\x{206a}-\x{206f}\x{fff9}-\x{fffc}]"
_ENGLISH = r"\t\n\r\x0b\x0c\x20-\x7e‘’“”–—…´·°×½¼\x{a0}"
_FOREIGN = f"[^{_ENGLISH}]"


def find_odd_expressions(labels: LabelTable) -> Iterator[Finding]:
    """Yield findings on expressions with more tokens than CLIP takes, or with odd characters."""
    encoded = encode_names(labels.table.column("expression"))
    texts, of_row = encoded.dictionary, encoded.indices.to_numpy()
    counts = _long_texts(texts)
    long = np.zeros(len(texts), bool)
    long[list(counts)] = True
    dropped = as_mask(pc.match_substring_regex(texts, _DROPPED))
    foreign = as_mask(pc.match_substring_regex(texts, _FOREIGN)) & ~dropped

    def text(row: int) -> str:
        return texts[int(of_row[row])].as_py()

    yield from Finding.of_rows(
        "too-long",
        f"expressions of more than {MAX_TOKENS} tokens",
        long[of_row],
        lambda row: f"{counts[int(of_row[row])]} tokens, {text(row)[:60]!r}…",
        remedy="They are cut at the end, and preset published refuses them: shorten them.",
    )
    yield from Finding.of_rows(
        "characters",
        "expressions with characters that the tokenizer drops",
        dropped[of_row],
        lambda row: repr(text(row)[:80]),
        remedy="Was the file written in another encoding? Write it as UTF-8.",
    )
    yield from Finding.of_rows(
        "characters",
        "expressions that are not all English, which is what CLIP knows",
        foreign[of_row],
        lambda row: f"{_odd(text(row))} in {text(row)[:80]!r}",
        remedy="Translate them, if these are other languages.",
    )


def _odd(text: str) -> str:
    plain = pc.replace_substring_regex(pa.array([text]), f"[{_ENGLISH}]", "")[0].as_py()
    return repr("".join(dict.fromkeys(plain))[:10])


def _long_texts(texts: pa.Array) -> dict[int, int]:
    """Return token counts of texts that have too many, by index; short texts are not tokenized."""
    few = MAX_TOKENS - 2 - 6  # start, end, and what the tokenizer's cleaning may add
    candidates = np.flatnonzero(pc.greater(pc.binary_length(texts), few))
    counts = {}
    for i in candidates.tolist():
        text = " ".join(texts[i].as_py().split())[:READ].lower()
        counts[i] = len(_tokenizer().encode(text)) + 2
    return {i: count for i, count in counts.items() if count > MAX_TOKENS}


@functools.cache
def _tokenizer() -> SimpleTokenizer:
    from open_clip.tokenizer import SimpleTokenizer  # imports torch, which few tables need

    return SimpleTokenizer()


def find_repeats(labels: LabelTable) -> Iterator[Finding]:
    """Yield findings on repeated labels, and on expressions with several boxes in an image."""
    if not len(labels):
        return
    texts = labels.table.column("expression").cast(pa.string())
    plain = encode_names(pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(texts, ""))))
    images = labels.distinct_images()[1]
    key = images * len(plain.dictionary) + plain.indices.to_numpy()
    boxes = labels.boxes()
    order = np.lexsort((*boxes.T[::-1], key))  # stable: of equal labels the first row comes first
    same_key = key[order][1:] == key[order][:-1]
    same_box = (boxes[order][1:] == boxes[order][:-1]).all(axis=1)
    again = np.concatenate([[False], same_key & same_box])
    repeated = np.zeros(len(labels), bool)
    repeated[order] = again
    starts = np.flatnonzero(~np.concatenate([[False], same_key]))
    is_other = ~again & np.isfinite(boxes[order]).all(axis=1)
    # Number of distinct boxes of each expression in an image.
    distinct = np.add.reduceat(is_other, starts, dtype=np.int64)
    sizes = np.diff([*starts, len(order)])
    several = np.zeros(len(labels), bool)
    several[order] = np.repeat(distinct > 1, sizes)
    several &= ~repeated & np.isfinite(boxes).all(axis=1)
    names = labels.table.column("image")

    def explain(row: int) -> str:
        return f"{texts[row].as_py()!r} {show_box(boxes[row])} on {names[row].as_py()}"

    yield from Finding.of_rows(
        "duplicate",
        "labels that repeat an earlier one: image, expression and box",
        repeated,
        explain,
        remedy="They count twice in training; clipvg labels merge keeps one of "
        "those that are equal in source and split too.",
    )
    yield from Finding.of_rows(
        "ambiguous",
        "labels whose expression has several boxes in its image",
        several,
        explain,
        remedy="At most one of them is what a model can learn to find.",
    )
