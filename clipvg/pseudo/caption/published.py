"""The published pairing of captions and boxes: a word of the subject is the box's class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from clipvg.pseudo.caption.parse import Lemmatiser, Parser, subject_words
from clipvg.pseudo.observation import Box, Candidate

Kept = tuple[int, str, Box]  # index of a detection, its class and its box


def pair_captions(
    kept: Iterable[Kept], captions: Sequence[str], *, parse: Parser, lemmatise: Lemmatiser
) -> list[Candidate]:
    """Return the whole caption, unchanged, for each box whose class its subject has as a word.

    The detections that are kept come as people, garments, then things; in each group by class.
    """
    words = [(caption, subject_words(parse(caption), lemmatise)) for caption in captions if caption]
    return [
        Candidate(caption, box, "subject", index)
        for index, name, box in kept
        for caption, of_subject in words
        for word in of_subject
        if word == name
    ]
