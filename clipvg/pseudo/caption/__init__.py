"""The caption source: what captions say of an object, with the box of its detection."""

from __future__ import annotations

from clipvg.pseudo.caption.clause import Clause, clauses_of
from clipvg.pseudo.caption.match import match_clauses
from clipvg.pseudo.caption.parse import describe_parser, find_parser
from clipvg.pseudo.caption.published import published as published
from clipvg.pseudo.caption.rules import read_clauses
from clipvg.pseudo.observation import Candidate, Observation
from clipvg.pseudo.sources import Options

NEEDS = {"default": ("captions", "detections"), "published": ("captions", "detections")}

SEES_FAINT = True  # of two dogs, one faint, a caption may mean either


def made_with(options: Options) -> str:
    """Return the name and version of the parser of captions."""
    return describe_parser(options.pipeline)


def default(observation: Observation, options: Options) -> list[Candidate]:
    """Return each clause of the captions whose subject is one detection, with its box.

    Captions are parsed by spaCy if one of its pipelines is installed, else by rules.
    """
    parse = find_parser(options.pipeline)
    clauses: list[Clause] = []
    for caption in observation.captions:
        clauses += read_clauses(caption) if parse is None else clauses_of(parse(caption))
    return match_clauses(observation, clauses, options)
