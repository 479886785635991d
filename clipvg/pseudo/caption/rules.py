"""Find the clauses of a caption without a parser, by the word lists of the entity counter.

The subject is the first noun phrase of a sentence that no preposition opens. Its clause runs to
the end of the sentence, or to where "while", "as" or another subject begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile

from clipvg.pseudo.caption.clause import GATHERINGS, Clause, drop_article, join_words
from clipvg.pseudo.caption.parse import split_words
from clipvg.pseudo.words import BOUNDARIES, DETERMINERS, NOUNS, PLACES, PRONOUNS, is_plural

_OPENING = re.compile(
    r"^(there (is|are|was|were)|this is|these are|here (is|are)|it is)\s+", re.IGNORECASE
)
_SHOWN = re.compile(
    r"^(an? |the )?((black and white|close[ -]?up|cropped|old|blurry) )?"
    r"(close[ -]?up|image|photo|photograph|picture|shot|view) of ",
    re.IGNORECASE,
)
_VERBS_TO_BE = frozenset({"is", "are", "was", "were"})
_INTENSIFIERS = frozenset({"very", "really", "so", "too"})
_NEW_CLAUSES = frozenset({"while", "as", "where", ";"})
_NUMBERS = frozenset(
    "two three four five six seven eight nine ten several many some few various multiple".split()
)


def read_clauses(caption: str) -> list[Clause]:
    """Return the clauses that rules find in a caption, at most one per sentence and conjunct."""
    return [clause for words in _sentences(caption) for clause in _read_sentence(words)]


def find_subject_text(caption: str) -> str | None:
    """Return the noun phrase of the first subject as written, or None if there is none."""
    for words in _sentences(caption):
        start, end = _first_phrase(words)
        return " ".join(words[start:end]) if end > start else None
    return None


def _sentences(caption: str) -> Iterator[list[str]]:
    for sentence in re.split(r"(?<=[.!?;])\s+", caption.strip()):
        words = split_words(_SHOWN.sub("", _OPENING.sub("", sentence.rstrip(" .!?;"))))
        start = 0
        for i in range(len(words)):
            if _joins_after_place(words, i):
                yield words[start:i]
                start = i + 1
        if words:
            yield words[start:]


def _joins_after_place(words: list[str], index: int) -> bool:
    """Return whether "and" after a place adds a subject: "a cat on the left and a dog"."""
    if words[index].lower() != "and" or index + 1 == len(words) or index < 4:
        return False
    before = [word.lower() for word in words[:index]]
    article = next((i for i in range(index - 2, index - 5, -1) if before[i] == "the"), 0)
    is_place = before[-1] in PLACES and before[article - 1] in ("in", "on", "at")
    return is_place and words[index + 1].lower() in DETERMINERS


def _read_sentence(words: list[str]) -> Iterator[Clause]:
    start, end = _first_phrase(words)
    if end == start:
        return
    rest = words[end:]
    if rest[:1] in (["and"], [","]):  # "a man and a woman riding bikes"
        yield from _clause(words[start:end], [])
        second = rest[1:]
        if second[:1] and second[0].lower() in DETERMINERS:
            yield from _read_sentence(second)
        return
    if rest[:1] == ["of"] and words[end - 1].lower() in GATHERINGS:
        _, stop = _first_phrase(rest[1:])
        yield from _clause(words[start : end + 1 + stop], rest[1 + stop :])
        return
    yield from _clause(words[start:end], rest)


def _clause(phrase: list[str], rest: list[str]) -> Iterator[Clause]:
    phrase = drop_article(phrase)
    noun = [word.lower() for word in phrase]
    if not noun or noun[-1] in PRONOUNS:
        return
    said = [*takewhile(lambda word: word.lower() not in _NEW_CLAUSES, rest)]
    if said and said[0].lower() in _VERBS_TO_BE and len(said) > 1 and _points(said[1].lower()):
        said = said[1:]
    words = [phrase[0].lower() if phrase[0].istitle() else phrase[0], *phrase[1:], *said]
    is_several = noun[0] in _NUMBERS or is_plural(noun[-1])
    yield Clause(tuple(noun), is_several, join_words(words))


def _points(word: str) -> bool:
    """Return whether "is" before a word can be dropped: "is lying", "is on"."""
    is_participle = word.endswith(("ing", "ed")) and len(word) > 4
    return is_participle or word in BOUNDARIES - {"not", "that", "what", "too", "very", "so"}


def _first_phrase(words: list[str]) -> tuple[int, int]:
    """Return start and end of the first noun phrase that no preposition opens."""
    start = 0
    if words and _is_boundary(words[0]):  # "In a kitchen a woman is cooking"
        articles = [i for i, word in enumerate(words) if word.lower() in DETERMINERS]
        start = next((i for i in articles if i > 1 and not _is_boundary(words[i - 1])), -1)
        if start < 0:
            return 0, 0
    end = start
    while end < len(words) and (end == start or not _ends(words, end)):
        end += 1
    return start, end


def _ends(words: list[str], index: int) -> bool:
    word, before = words[index].lower(), words[index - 1].lower()
    if word == "and" and _is_colour_list(words, index):
        return False
    if word == "'s" or before == "'s" or word in _INTENSIFIERS:
        return False
    is_described = before in DETERMINERS | _NUMBERS | _INTENSIFIERS
    if is_described and word.endswith(("ing", "ed")):  # "a smiling man"
        return False
    after = words[index + 1] if index + 1 < len(words) else "."
    if word.endswith("ed") and len(word) > 4 and word not in NOUNS and _is_boundary(after):
        return True  # "two buses parked on"
    return _is_boundary(word) or word in DETERMINERS


def _is_colour_list(words: list[str], index: int) -> bool:
    """Return whether "and" joins two adjectives: "a black and white cat"."""
    colours = {"black", "white", "red", "green", "blue", "yellow", "brown", "orange", "gray",
               "grey", "pink", "purple", "big", "small", "old", "young"}  # fmt: skip
    neighbours = words[index - 1 : index] + words[index + 1 : index + 2]
    return len(neighbours) == 2 and {word.lower() for word in neighbours} <= colours


def _is_boundary(word: str) -> bool:
    word = word.lower()
    if word in BOUNDARIES or not word[0].isalnum():
        return True
    return word.endswith("ing") and len(word) > 4 and word not in NOUNS
