"""Parsed captions, splitting into words, and spaCy as the parser if it is installed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple

from clipvg.errors import InputError, MissingExtraError


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
    """A caption's words and their dependencies."""

    caption: str  # as written
    tokens: Sequence[Token]  # all of them, in order
    chunks: Sequence[Chunk]  # noun phrases, in order

    def text(self, start: int, end: int) -> str:
        """Return the caption's text from token `start` up to, not including, `end`."""
        places = self._places()
        return self.caption[places[start][0] : places[end - 1][1]]

    def _places(self) -> list[tuple[int, int]]:
        """Return where each token starts and ends in the caption."""
        places: list[tuple[int, int]] = []
        place = 0
        for token in self.tokens:
            place = self.caption.index(token.text, place)
            places.append((place, place + len(token.text)))
            place += len(token.text)
        return places


Parser = Callable[[str], Parse]


# The Penn Treebank rules for splitting words, as far as noun phrases need them.
_TREEBANK = [
    (re.compile(r"([:,])([^\d])"), r" \1 \2"),
    (re.compile(r"([:,])$"), r" \1 "),
    (re.compile(r"\.\.\.|[;@#$%&?!]|--|[\]\[(){}<>]|\"|``|''"), r" \g<0> "),
    (re.compile(r"([^.])(\.)([\]\[)}>\"']*)\s*$"), r"\1 \2\3 "),
    (re.compile(r"([^' ])('[sSmMdD]|')(?=\s|$)"), r"\1 \2 "),
    (re.compile(r"(?i)([^' ])('ll|'re|'ve|n't)(?=\s|$)"), r"\1 \2 "),
    (re.compile(r"(?i)\b(can)(not)\b"), r"\1 \2 "),
]


def split_words(text: str) -> list[str]:
    """Return the words of a text, split by the rules of the Penn Treebank.

    Example:
        >>> split_words("A man's t-shirt, red")
        ['A', 'man', "'s", 't-shirt', ',', 'red']
    """
    for pattern, replacement in _TREEBANK:
        text = pattern.sub(replacement, text)
    return text.split()


_PIPELINES = ("en_core_web_sm", "en_core_web_md", "en_core_web_lg", "en_core_web_trf")
_DOWNLOAD = "python -m spacy download en_core_web_sm"


def find_parser(pipeline: str | None) -> Parser | None:
    """Return the parser of the given spaCy pipeline, else of the first that is installed, or None.

    Raises:
        MissingExtraError: a pipeline is given, but spaCy is not installed.
        InputError: the pipeline does not exist, or does not parse.
    """
    name = _chosen(pipeline)
    return None if name is None else load_parser(name)


def describe_parser(pipeline: str | None) -> str:
    """Return the name and version of the parser that `find_parser` finds; "rules" for none."""
    name = _chosen(pipeline)
    if name is None:
        return "rules"
    meta = _load_pipeline(name).meta
    return f"{meta['lang']}_{meta['name']} {meta['version']}, spaCy {version('spacy')}"


def _chosen(pipeline: str | None) -> str | None:
    if pipeline is not None or find_spec("spacy") is None:
        return pipeline
    return next((name for name in _PIPELINES if find_spec(name) is not None), None)


def need_parser(pipeline: str | None) -> Parser:
    """Return a parser as `find_parser` does; raise MissingExtraError if there is none."""
    parser = find_parser(pipeline)
    if parser is None:
        message = "the published caption rules need a spaCy pipeline: pip install 'clipvg[spacy]'"
        raise MissingExtraError(f"{message}, then {_DOWNLOAD}")
    return parser


@cache
def load_parser(pipeline: str) -> Parser:
    """Return the parser of a spaCy pipeline, by its name or folder; see `find_parser`."""
    language = _load_pipeline(pipeline)

    def parse(caption: str) -> Parse:
        document = language(caption)
        tokens = [
            Token(token.text, token.tag_, token.pos_, token.dep_, token.head.i)
            for token in document
        ]
        chunks = [Chunk(chunk.start, chunk.end, chunk.root.i) for chunk in document.noun_chunks]
        return Parse(caption, tokens, chunks)

    return parse


@cache
def _load_pipeline(pipeline: str) -> Any:
    try:
        import spacy
    except ImportError:
        raise MissingExtraError.for_extra(f"the spaCy pipeline {pipeline!r}", "spacy") from None
    try:
        language = spacy.load(pipeline)
    except OSError:
        raise InputError(
            f"no spaCy pipeline {pipeline!r}: give its name or folder; {_DOWNLOAD} fetches one"
        ) from None
    if not {"tagger", "parser"} <= set(language.pipe_names):
        raise InputError(
            f"the spaCy pipeline {pipeline!r} has {', '.join(language.pipe_names) or 'nothing'}; "
            "captions need one with tagger and parser, such as en_core_web_sm"
        )
    return language
