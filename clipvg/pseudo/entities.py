"""Count the entities of an expression by rules, to order label sources by complexity.

CLIP-VG orders sources by the mean number of entities per expression. Here an entity is the head of
a noun phrase, found without a parser:

1. Words that cannot be inside a noun phrase (prepositions, verbs, conjunctions, "who", "that"),
   punctuation, articles and possessives end a phrase.
2. In a phrase the last word that is neither adjective nor place word is the head, so compounds
   count once: "baseball player". An adjective after a noun starts a new phrase, which telegraphic
   expressions need: "man red shirt" is two.
3. Place words do not name a thing ("left", "corner", "background"), nor do measure words before
   "of" ("slice of pizza").
4. Adjectives alone count where they open the expression ("pink in front") or an article makes them
   a thing ("left of the red"), not elsewhere ("man in white") nor joined by "and" with a further
   one ("a blue and white shirt"); pronouns never count.
5. An expression with words has at least one entity, even if it names none: "far left".

Limits: English only; a word counts as a noun if no list or ending marks it as something else, and
a noun that is marked does not ("orange" is a colour first); nouns side by side without an adjective
between them are one ("man hat"). It suffices to order sources, but is not a parser.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from clipvg.pseudo.words import (
    ADJECTIVES,
    BOUNDARIES,
    DETERMINERS,
    MEASURES,
    NOUNS,
    PLACES,
    PRONOUNS,
)

if TYPE_CHECKING:
    from clipvg.labels import LabelTable

_WORD = re.compile(r"[a-z]+n't|[a-z0-9#][a-z0-9#\-]*|'s?\b|[^\sa-z0-9]")
_SPACED = re.compile(r"(?<=\w)\s*([-'])\s*(?=\w)")
_NUMBER = re.compile(r"#?\d+(st|nd|rd|th|s)?$")
_POSSESSIVE = re.compile(r"(?<=[a-z])'s?(?=\s|$)")
_JOINING = frozenset({"and", "or", ",", "&"})
_ADJECTIVE_ENDINGS = ("ed", "est", "ly", "ish", "less", "ward", "most", "colored", "coloured")


def entity_heads(expression: str) -> list[str]:
    """Return the heads of the noun phrases of an expression, lower-cased, in order.

    A phrase of adjectives alone that counts is represented by its last adjective. The list is
    empty if the expression names nothing; `count_entities` returns 1 nevertheless.

    Example:
        >>> entity_heads("the man in a red shirt left of the baseball player")
        ['man', 'shirt', 'player']
    """
    heads: list[str] = []
    words = [*split_expression(expression), "."]
    start = 0
    for i, word in enumerate(words):
        if _ends_phrase(word):
            is_thing = word not in _JOINING and (words[start - 1] in DETERMINERS if start else True)
            heads += _heads_of_phrase(words[start:i], is_thing=is_thing, before=word)
            start = i + 1
    return heads


def count_entities(expression: str) -> int:
    """Return the number of entities of an expression, at least 1 if it has any word.

    Example:
        >>> count_entities("white dish in the top right corner"), count_entities("far left")
        (1, 1)
    """
    return max(len(entity_heads(expression)), int(bool(re.search(r"\w", expression))))


def mean_entities(labels: LabelTable) -> float:
    """Return the mean number of entities per expression of labels; 0 without labels.

    Each distinct expression is analysed once.
    """
    counts = Counter(labels.expressions)
    total = sum(count_entities(expression) * times for expression, times in counts.items())
    return total / max(1, len(labels))


def split_expression(expression: str) -> list[str]:
    """Return the words and punctuation marks of an expression, lower-cased."""
    text = _SPACED.sub(r"\1", expression.lower().replace("’", "'"))  # "t - shirt", "doesn ' t"
    return _WORD.findall(_POSSESSIVE.sub(" 's", text))


def _ends_phrase(word: str) -> bool:
    if word in BOUNDARIES or word in DETERMINERS or (not word[0].isalnum() and word[0] != "#"):
        return True
    is_verb = word.endswith(("ing", "n't")) and len(word) > 4
    return is_verb and word not in NOUNS


def _heads_of_phrase(words: list[str], *, is_thing: bool, before: str) -> list[str]:
    """Return the heads of a phrase that `before` ends; if `is_thing`, adjectives alone are one."""
    heads: list[str] = []
    noun = adjective = ""
    for word in words:
        if is_adjective(word):
            if noun:  # an adjective after a noun starts another phrase
                heads.append(noun)
                noun, is_thing = "", False
            adjective = word
        elif word not in PLACES and word not in PRONOUNS:
            noun = word
    if noun in MEASURES and before == "of":
        return heads
    if noun:
        return [*heads, noun]
    return [*heads, adjective] if adjective and is_thing else heads


def is_adjective(word: str) -> bool:
    """Return whether a lower-cased word is an adjective or a number, by lists and endings."""
    if word in NOUNS:
        return False
    if word in ADJECTIVES or _NUMBER.match(word):
        return True
    return word.endswith(_ADJECTIVE_ENDINGS) and len(word) > 4


KINDS = ("relation", "position", "attribute", "name")  # those of rendered scenes, and "name"
_ORDINALS = frozenset("first second third fourth fifth 1st 2nd 3rd 4th 5th last".split())


def kind_of(expression: str) -> str:
    """Return how an expression sets its object apart from others: the first fitting of `KINDS`.

    - "relation": names a second thing: "man in a red shirt", "cup next to the plate";
    - "position": says where: "left man", "second dog from the right";
    - "attribute": says how it looks: "red cup", "biggest dog";
    - "name": says only what it is called: "dog", "the stop sign".

    Example:
        >>> [kind_of(text) for text in ("cup next to the plate", "left man", "red cup", "dog")]
        ['relation', 'position', 'attribute', 'name']
    """
    words = split_expression(expression)
    if len(entity_heads(expression)) > 1:
        return "relation"
    if any(word in PLACES or word in _ORDINALS for word in words):
        return "position"
    return "attribute" if any(map(is_adjective, words)) else "name"
