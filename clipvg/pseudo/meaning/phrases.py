"""What an expression says where nobody has named what is in the image: phrases, as they stand.

`Vocabulary.read` knows the classes of observations; here any noun may be one, as CLIP can judge it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from clipvg.pseudo.caption.clause import drop_article, join_words
from clipvg.pseudo.caption.parse import split_words
from clipvg.pseudo.entities import entity_heads
from clipvg.pseudo.meaning.reading import EXTREMES, LOOSE, NUMBERS, ORDINALS, SAID_FOR
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
RELATION_WORDS = {said: name for name, more in (_PLAIN | _BY_SIZE).items() for said in more}
"""The seven relations that boxes alone can tell, by the words for them."""
_SIDE_WORDS = frozenset("side corner part half edge end hand most row area".split())
_PLACING = frozenset("on in at to from of the far very".split())
_WHOLE = frozenset("picture image photo photograph pic screen frame us you camera".split())
_ONES = frozenset({"one", "ones"})


@dataclass(frozen=True)
class Phrase:
    """What an expression says, in words that CLIP can judge and in what boxes can tell.

    Attributes:
        text: the object and its looks, without article and without what is said of its place.
        extremes: values of `EXTREMES` that single it out among its like.
        nth: number of those that come before it, 1 in "second from the left".
        relation: one of the seven relations to a landmark; None without one.
        landmark: what is said of that.
    """

    text: str
    extremes: tuple[str, ...] = ()
    nth: int = 0
    relation: str | None = None
    landmark: Phrase | None = None


@lru_cache(maxsize=2**16)
def read_phrase(expression: str) -> Phrase:
    """Return what an expression says of its object.

    The first words for a relation that something follows divide the object from its landmark.

    Example:
        >>> read_phrase("second dog from the left")
        Phrase(text='dog', extremes=('left',), nth=1, relation=None, landmark=None)
        >>> read_phrase("cup to the left of the red plate").landmark.text
        'red plate'
    """
    words = split_words(expression.replace("/", " "))
    return _read(words) if words else Phrase(expression)


def _read(words: Sequence[str]) -> Phrase:
    lower = [word.lower() for word in words]
    for start in range(1, len(words)):
        for length in range(min(_MOST_WORDS, len(words) - start - 1), 0, -1):
            name = RELATION_WORDS.get(" ".join(lower[start : start + length]))
            rest = words[start + length :]
            if name and _is_landmark(lower[start : start + length], rest):
                subject = _place(words[:start])
                other = _read(rest)
                return Phrase(subject.text, subject.extremes, subject.nth, name, other)
    return _place(words)


def _is_landmark(said: Sequence[str], words: Sequence[str]) -> bool:
    """Whether words name a thing, and not a place in the image or what somebody wears."""
    lower = [word.lower() for word in words]
    if _WHOLE & {*lower[:3]} or lower[0] in PRONOUNS or (said[-1] == "in" and _is_worn(lower)):
        return False
    first = next((word for word in lower if word not in DETERMINERS), "")
    if first in EXTREMES and not any(_is_noun(word) for word in lower):
        return False
    if [*said] == ["in"] and lower[0] not in DETERMINERS:
        return False  # "man in white", "man in jeans"
    if [*said] == ["in"] and (first in EXTREMES or lower[0] in {"a", "an"}):
        return False  # "woman in a hat", "dog in the back"
    return any(_is_noun(word) for word in lower) or bool(entity_heads(" ".join(lower)))


def _is_worn(words: Sequence[str]) -> bool:
    """Whether the first thing of some words is worn, or is a colour: "in the black"."""
    first = entity_heads(" ".join(words))[:1]
    return bool((GARMENTS | ADJECTIVES | {"top"}) & {*first})


def _is_noun(word: str) -> bool:
    return bool(entity_heads(f"the {word}")) and word not in EXTREMES


def _place(words: Sequence[str]) -> Phrase:
    """Part what is said of place and size from what an object looks like."""
    lower = [word.lower() for word in words]
    at = [i for i, word in enumerate(lower) if word in EXTREMES and _singles_out(lower, i)]
    nth = next((ORDINALS[word] for word in lower if word in ORDINALS), 0) if at else 0
    gone = {*at, *(i for i, word in enumerate(lower) if at and word in ORDINALS)}
    for i in at:
        gone |= _around(lower, i)
    kept = [word for i, word in enumerate(words) if i not in gone and word != ","]
    while kept and kept[-1].lower() in BOUNDARIES | DETERMINERS:
        kept.pop()
    kept = drop_article(kept)
    text = join_words(kept)
    if not entity_heads(text) or {word.lower() for word in kept} <= _ONES:
        text = text if kept and not {w.lower() for w in kept} <= _ONES else "thing"
    extremes = tuple(dict.fromkeys(EXTREMES[lower[i]] for i in at))
    return Phrase(text, extremes, nth)


def _singles_out(words: Sequence[str], index: int) -> bool:
    """Whether a word of place or size singles the object out, and is no part of something else.

    "close" and "back" do so only after "the" or at an end; "left arm" is not on the left.
    """
    word = words[index]
    after = words[index + 1] if index + 1 < len(words) else ""
    if after == "of" and word in LOOSE | {"top", "bottom", "middle", "center"}:
        # "in front of", "top of the stairs", but "top of the image", "middle of the three"
        return bool((_WHOLE | NUMBERS) & {*words[index + 2 : index + 4]})
    if after in EXTREMES and word == "far":
        return False  # the next says where
    if word == "top" and words[index - 1 : index] and words[index - 1] in ADJECTIVES:
        return False  # "white top"
    if word not in LOOSE:
        return True
    return not after or after in BOUNDARIES or words[index - 1 : index] == ["the"]


def _around(words: Sequence[str], index: int) -> set[int]:
    """Places of the words that go with a word for a place: "on the", "side", "of the image"."""
    found: set[int] = set()
    before = index - 1
    while before >= 0 and words[before] in _PLACING:
        found.add(before)
        before -= 1
    after = index + 1
    while after < len(words) and words[after] in _SIDE_WORDS:
        found.add(after)
        after += 1
    tail = [i for i in range(after, min(after + 4, len(words)))]
    whole = next((i for i in tail if words[i] in _WHOLE), None)
    if whole is not None and all(words[i] in _PLACING | DETERMINERS for i in range(after, whole)):
        found |= {*range(after, whole + 1)}
    return found
