"""The region source: expressions from model descriptions of single boxes."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace

from clipvg.pseudo.observation import Candidate, Observation
from clipvg.pseudo.sources import Options

NEEDS = {"default": ("candidates",)}
SEES_FAINT = True  # candidates index all detections of their image
NAME = "region"

_LONGEST = 20  # words
_OPENINGS = re.compile(
    r"^(?:(?:this|the) (?:image|picture|photo|crop) (?:shows|depicts|contains|is of) "
    r"|(?:there|here|this|it) is "
    r"|(?:an? )?(?:close-?up|(?:close-?up )?(?:image|picture|photo|photograph|view)) of )+",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:an?|the) ", re.IGNORECASE)


def default(observation: Observation, options: Options) -> list[Candidate]:
    """Return the descriptions of boxes that score high enough, worded as expressions.

    A description that several boxes share is left out, unless ambiguous ones are kept.
    """
    said: dict[str, list[Candidate]] = defaultdict(list)
    for one in observation.candidates.get(NAME, ()):
        is_likely = _score(one, observation) >= options.min_score
        if is_likely and (words := as_expression(one.expression)):
            said[words.lower()].append(replace(one, expression=words))
    keeps = options.ambiguous == "keep"
    return [one for found in said.values() if keeps or len(found) == 1 for one in found]


def _score(one: Candidate, observation: Observation) -> float:
    """Return the score of the detection that a candidate describes; 1 if there is none."""
    about = observation.detections[one.detection :] if one.detection is not None else ()
    return about[0].score if about else 1.0


def as_expression(description: str) -> str:
    """Return the first sentence of a description without its introductory words.

    The result is empty if nothing is left, or more than twenty words.

    Example:
        >>> as_expression("This image shows a man in a red shirt. He is smiling.")
        'man in a red shirt'
    """
    words = " ".join(description.split()).strip("\"'“” ")
    sentence = re.split(r"[.!?;](?:\s|$)", words, maxsplit=1)[0]
    bare = _ARTICLE.sub("", _OPENINGS.sub("", sentence).strip()).strip(" ,:\"'")
    return bare if len(bare.split()) <= _LONGEST else ""
