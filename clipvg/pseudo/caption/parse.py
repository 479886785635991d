"""A parsed caption, and the words of its subject as the published program finds them."""

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
Lemmatiser = Callable[[str], str]


def find_subject(parse: Parse) -> Chunk | None:
    """Return the noun phrase that the published program takes for the subject.

    It is the phrase around the root, or around the root's first child; where there is neither,
    the same two around the head of the first noun phrase.
    """
    root = next((i for i, token in enumerate(parse.tokens) if token.head == i), None)
    if root is None or not parse.chunks:
        return None
    subject = _phrase_at(parse, root)
    return subject or _phrase_at(parse, parse.tokens[parse.chunks[0].root].head)


def subject_words(parse: Parse, lemmatise: Lemmatiser) -> list[str]:
    """Return the words that the published program compares with classes.

    All words of the subject, each as the singular of a noun and only then in lower case, so that
    a plural with a capital stays one; "no_object" without a subject.
    """
    subject = find_subject(parse)
    if subject is None:
        return ["no_object"]
    words = split_words(parse.text(subject.start, subject.end))
    return [lemmatise(word).lower() for word in words]


def _phrase_at(parse: Parse, index: int) -> Chunk | None:
    children = (i for i, token in enumerate(parse.tokens) if token.head == index and i != index)
    return _phrase_of(parse, index) or _phrase_of(parse, next(children, None))


def _phrase_of(parse: Parse, index: int | None) -> Chunk | None:
    if index is None:
        return None
    return next((chunk for chunk in parse.chunks if chunk.start <= index < chunk.end), None)


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
