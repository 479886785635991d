"""spaCy as the parser of captions, where it is installed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from clipvg.errors import InputError, MissingExtraError
from clipvg.pseudo.caption.parse import Chunk, Parse, Parser, Token

_PIPELINES = ("en_core_web_sm", "en_core_web_md", "en_core_web_lg", "en_core_web_trf")
_DOWNLOAD = "python -m spacy download en_core_web_sm"


def find_parser(pipeline: str | None) -> Parser | None:
    """Return a parser: the pipeline asked for, else the first of spaCy that is installed.

    Raises:
        MissingExtraError: a pipeline is asked for, and spaCy is not installed.
        InputError: the pipeline is not there, or does not parse.
    """
    name = _chosen(pipeline)
    return None if name is None else load_parser(name)


def describe_parser(pipeline: str | None) -> str:
    """Return which parser `find_parser` takes, with its version; "rules" for none."""
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
    """Return a parser as `find_parser` does; raise MissingExtraError where there is none."""
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
