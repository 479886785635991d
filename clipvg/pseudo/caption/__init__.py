"""The caption source: what captions say of a thing, with the box of its detection."""

from __future__ import annotations

from clipvg.errors import InputError
from clipvg.pseudo.caption.clause import Clause, clauses_of
from clipvg.pseudo.caption.lemma import published_lemma
from clipvg.pseudo.caption.match import match_clauses
from clipvg.pseudo.caption.published import pair_captions
from clipvg.pseudo.caption.rules import read_clauses
from clipvg.pseudo.caption.spacy_parser import describe_parser, find_parser, need_parser
from clipvg.pseudo.observation import Candidate, Observation
from clipvg.pseudo.options import Options
from clipvg.pseudo.template.kept import keep_published

NEEDS = {
    "default": ("captions", "detections"),
    "published": ("captions", "detections"),
}

SEES_FAINT = True  # of two dogs, one faint, a caption may mean either


def made_with(options: Options) -> str:
    """Return what captions are parsed with."""
    return describe_parser(options.pipeline)


def default(observation: Observation, options: Options) -> list[Candidate]:
    """Return each clause of the captions whose subject is one detection, with its box.

    Captions are parsed by spaCy where a pipeline of it is installed, else read by rules.
    """
    parse = find_parser(options.pipeline)
    clauses: list[Clause] = []
    for caption in observation.captions:
        clauses += read_clauses(caption) if parse is None else clauses_of(parse(caption))
    return match_clauses(observation, clauses, options)


def published(observation: Observation, options: Options) -> list[Candidate]:
    """Return the whole caption for each box whose class is a word of its subject, as published.

    Raises:
        MissingExtraError: no spaCy pipeline is installed.
        InputError: a caption is empty, where the published program crashes.
    """
    if "" in observation.captions:
        raise InputError(
            f"{observation.image}: caption {observation.captions.index('')} is empty, where the "
            "published program crashes; take it out, or use the default preset"
        )
    kept = [
        (each.index, each.found.name, each.found.box)
        for group in keep_published(observation).values()
        for each in group
    ]
    parse = need_parser(options.pipeline)
    return pair_captions(kept, observation.captions, parse=parse, lemmatise=published_lemma)
