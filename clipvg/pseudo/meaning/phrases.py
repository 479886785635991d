"""Parse expressions into phrases, without observations that name what is in the image.

`Vocabulary.read` knows the classes of observations; here any noun may be one, as CLIP can score it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from clipvg.pseudo.caption.clause import join_words
from clipvg.pseudo.caption.parse import split_words
from clipvg.pseudo.entities import entity_heads
from clipvg.pseudo.meaning.extremes import (
    EXTREMES,
    NUMBERS,
    ONES,
    PLACING,
    WHOLE,
    find_extremes,
    is_noun,
)
from clipvg.pseudo.meaning.reading import SAID_FOR
from clipvg.pseudo.relation.wording import GARMENTS
from clipvg.pseudo.words import ADJECTIVES, BOUNDARIES, DETERMINERS, PRONOUNS

_MOST_WORDS = 6  # of a relation: "on the left hand side of"
_BY_SIZE = {
    "bigger": ("bigger than", "larger than", "taller than"),
    "smaller": ("smaller than", "shorter than"),
}
_PLAIN = {
    "left": ("to the left of", *SAID_FOR["to the left of"], "on the left side of", "to left of"),
    "right": (
        "to the right of", *SAID_FOR["to the right of"], "on the right side of", "to right of",
    ),
    "above": ("above", "on top of", *SAID_FOR["above"]),
    "below": ("below", *SAID_FOR["below"]),
    "inside": ("inside", "inside of", "within", "in"),
}  # fmt: skip
# Words for the seven relations that follow from boxes alone, and the relation of each.
RELATION_WORDS = {said: name for name, more in (_PLAIN | _BY_SIZE).items() for said in more}
_THING = "thing"  # stands for an object without a name
_HAVING = frozenset("in with without".split())
_LEADING = (BOUNDARIES | DETERMINERS | NUMBERS) - _HAVING  # "the larger of the two dogs"
_TRAILING = (BOUNDARIES | DETERMINERS) - {"up", "down"}
_ADVERBS = frozenset("directly immediately slightly just right far".split())
# Shorthand that people type, and its replacement: "guy w/ hat", "red/white", "right-hand one".
_TYPED = (
    (r"(?i)(?<!\S)w/o(?!\S)", "without "),
    (r"(?i)(?<!\S)w/", "with "),
    (r"/", " "),
    (r"(?i)\b(left|right|top|bottom|upper|lower|middle|front|back|far)-", r"\1 "),
)


@dataclass(frozen=True)
class Phrase:
    """Parsed expression: words that CLIP can score, and relations that boxes can tell."""

    text: str  # the object and its looks, without article and words of place
    extremes: tuple[str, ...] = ()  # values of `EXTREMES` that single it out among its kind
    nth: int = 0  # number of objects that come before it, 1 in "second from the left"
    relation: str | None = None  # one of the seven relations to a landmark
    landmark: Phrase | None = None  # phrase of the landmark


@lru_cache(maxsize=2**16)
def read_phrase(expression: str) -> Phrase:
    """Return the phrase of an expression.

    The first words for a relation that a landmark follows separate the object from the landmark.

    Example:
        >>> read_phrase("second dog from the left")
        Phrase(text='dog', extremes=('left',), nth=1, relation=None, landmark=None)
        >>> read_phrase("cup to the left of the red plate").landmark.text
        'red plate'
    """
    text = expression
    for typed, meant in _TYPED:
        text = re.sub(typed, meant, text)
    words = split_words(text)
    return _read(words) if words else Phrase(expression)


def _read(words: Sequence[str]) -> Phrase:
    lower = [word.lower() for word in words]
    for start in range(len(words)):
        for length in range(min(_MOST_WORDS, len(words) - start - 1), 0, -1):
            said, rest = lower[start : start + length], words[start + length :]
            name = RELATION_WORDS.get(" ".join(said))
            if name and _is_landmark(said, rest, opens=not start):
                subject = _place(_without_adverbs(words[:start]), is_cut=True)
                landmark = _read(rest)
                if landmark.text == _THING:  # "to the left of the other one"
                    landmark = replace(landmark, text=subject.text)
                return replace(subject, relation=name, landmark=landmark)
    return _place(words)


def _is_landmark(said: Sequence[str], words: Sequence[str], *, opens: bool) -> bool:
    """Return whether words name a thing, not a place in the image or what somebody wears."""
    lower = [word.lower() for word in words]
    if WHOLE & {*lower[:3]} or lower[0] in PRONOUNS or (said[-1] == "in" and _is_worn(lower)):
        return False
    if opens and said[-1] == "of" and NUMBERS & {*lower[:2]}:
        return False  # "left of the two women"
    first = next((word for word in lower if word not in DETERMINERS), "")
    if first in EXTREMES and not any(is_noun(word) for word in lower):
        return False
    if said == ["in"] and lower[0] not in DETERMINERS:
        return False  # "man in white", "man in jeans"
    if said == ["in"] and (first in EXTREMES or lower[0] in {"a", "an"}):
        return False  # "woman in a hat", "dog in the back"
    if first in ONES:
        return True
    return any(is_noun(word) for word in lower) or bool(entity_heads(" ".join(lower)))


def _is_worn(words: Sequence[str]) -> bool:
    """Return whether the first thing that words name is worn, or a colour: "in the black"."""
    first = entity_heads(" ".join(words))[:1]
    return bool((GARMENTS | ADJECTIVES | {"top"}) & {*first})


def _without_adverbs(words: Sequence[str]) -> Sequence[str]:
    """Drop words that only say how a relation holds: "directly" in "man directly left of"."""
    *before, last = [word.lower() for word in words] or [""]
    is_place = last != "far" and before[-1:] and before[-1] in PLACING  # "man on the right"
    return words if last not in _ADVERBS or is_place else _without_adverbs(words[:-1])


def _place(words: Sequence[str], *, is_cut: bool = False) -> Phrase:
    """Separate words of place and size from those for an object's looks.

    `is_cut` says that more words followed, which are parsed already.
    """
    lower = [word.lower() for word in words]
    extremes, nth, gone = find_extremes(lower)
    if is_cut:
        gone.add(len(words))
    kept = _kept(lower, gone)
    is_named = {lower[i] for i in kept} - ONES
    text = join_words([words[i] for i in kept]) if is_named else _THING
    if kept and lower[kept[0]] in _HAVING and min(gone, default=kept[0]) < kept[0]:
        text = f"{_THING} {text}"  # "right in black"
    return Phrase(text, extremes, nth)


def _kept(words: Sequence[str], gone: set[int]) -> list[int]:
    """Return indices of words to keep: no marks, no articles, nothing that led to a gone word."""
    kept = [i for i, word in enumerate(words) if i not in gone and any(map(str.isalnum, word))]
    first, last = min(gone, default=len(words)), max(gone, default=-1)
    while kept and words[kept[0]] in (_LEADING if first < kept[0] else DETERMINERS):
        kept.pop(0)
    while kept and last > kept[-1] and words[kept[-1]] in _TRAILING:
        kept.pop()
    return kept
