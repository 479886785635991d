"""A parsed caption, and how its words are told apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Token(NamedTuple):
    """A word of a caption."""

    text: str  # as written
    tag: str  # part of speech of the Penn Treebank, such as NN or VBG
    pos: str  # universal part of speech
    dep: str  # relation to its head, such as nsubj
    head: int  # index of its head; a root is its own


class Chunk(NamedTuple):
    """A noun phrase: tokens from `start` up to, not including, `end`, and its main word."""

    start: int
    end: int
    root: int


@dataclass(frozen=True)
class Parse:
    """A caption's words and how they hang together."""

    caption: str  # as written
    tokens: Sequence[Token]  # all of them, in order
    chunks: Sequence[Chunk]  # noun phrases, in order

    def text(self, start: int, end: int) -> str:
        """Return what the caption has from one token up to, not including, another."""
        places = self._places()
        return self.caption[places[start][0] : places[end - 1][1]]

    def _places(self) -> list[tuple[int, int]]:
        """Where each token is in the caption."""
        places: list[tuple[int, int]] = []
        place = 0
        for token in self.tokens:
            place = self.caption.index(token.text, place)
            places.append((place, place + len(token.text)))
            place += len(token.text)
        return places


Parser = Callable[[str], Parse]


_TREEBANK = [
    (re.compile(r"([:,])([^\d])"), r" \1 \2"),
    (re.compile(r"([:,])$"), r" \1 "),
    (re.compile(r"\.\.\.|[;@#$%&?!]|--|[\]\[(){}<>]|\"|``|''"), r" \g<0> "),
    (re.compile(r"([^.])(\.)([\]\[)}>\"']*)\s*$"), r"\1 \2\3 "),
    (re.compile(r"([^' ])('[sSmMdD]|')(?=\s|$)"), r"\1 \2 "),
    (re.compile(r"(?i)([^' ])('ll|'re|'ve|n't)(?=\s|$)"), r"\1 \2 "),
    (re.compile(r"(?i)\b(can)(not)\b"), r"\1 \2 "),
]
"""The rules of the Treebank for words, as far as noun phrases need them."""


def split_words(text: str) -> list[str]:
    """Return the words of a text, cut by the rules of the Penn Treebank.

    Example:
        >>> split_words("A man's t-shirt, red")
        ['A', 'man', "'s", 't-shirt', ',', 'red']
    """
    for pattern, replacement in _TREEBANK:
        text = pattern.sub(replacement, text)
    return text.split()
