"""Plurals and singulars of English nouns, by rules and the exceptions that captions have."""

from __future__ import annotations

from functools import lru_cache

_PLURALS = {
    "calf": "calves",
    "child": "children",
    "foot": "feet",
    "goose": "geese",
    "half": "halves",
    "hoof": "hooves",
    "knife": "knives",
    "leaf": "leaves",
    "loaf": "loaves",
    "man": "men",
    "mouse": "mice",
    "person": "people",
    "shelf": "shelves",
    "tooth": "teeth",
    "wolf": "wolves",
    "woman": "women",
}
_SINGULARS = {plural: singular for singular, plural in _PLURALS.items()} | {
    "buses": "bus",
    "cookies": "cookie",
    "movies": "movie",
    "quizzes": "quiz",
    "selfies": "selfie",
    "veggies": "veggie",
    "shoes": "shoe",
    "ties": "tie",
}
_ALIKE = frozenset(
    """clothes deer fish glasses jeans news pajamas pants scissors series sheep shorts skis
    sunglasses sweatpants tights trousers""".split()
)
_SINGULAR_ENDINGS = ("ss", "us", "is", "'s")


def make_plural(name: str) -> str:
    """Return the plural of a name, which may be of several words.

    Example:
        >>> make_plural("wine glass"), make_plural("person")
        ('wine glasses', 'people')
    """
    *before, last = name.split()
    return " ".join([*before, _plural_of(last)])


@lru_cache(maxsize=2**16)
def make_singular(word: str) -> str:
    """Return the singular of a word; a word that is no plural stays.

    Example:
        >>> [make_singular(word) for word in ("dogs", "berries", "children", "bus", "skis")]
        ['dog', 'berry', 'child', 'bus', 'skis']
    """
    if word in _SINGULARS:
        return _SINGULARS[word]
    if word.endswith("men") and len(word) > 5:
        return f"{word[:-3]}man"
    if word in _ALIKE or not word.endswith("s") or word.endswith(_SINGULAR_ENDINGS):
        return word
    if len(word) < 4:
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if word.endswith(("atoes", "oeses")):
        return word[:-2]
    return word[:-1]


@lru_cache(maxsize=2**16)
def is_plural(word: str) -> bool:
    """Return whether a word is a plural, as far as rules can say."""
    return (
        word in _SINGULARS
        or (word in _ALIKE - {"deer", "fish", "news", "sheep"})
        or (make_singular(word) != word)
    )


def _plural_of(word: str) -> str:
    if word in _PLURALS:
        return _PLURALS[word]
    if word in _ALIKE:
        return word
    if word.endswith("man") and word not in ("german", "human", "roman"):
        return f"{word[:-3]}men"
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"
