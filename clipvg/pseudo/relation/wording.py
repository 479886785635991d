"""Everyday wording for the class names of detectors and the predicates of scene graphs."""

from __future__ import annotations

from clipvg.pseudo.words import article

# Class names of detectors that nobody says.
_SAID = {
    "dining table": "table",
    "diningtable": "table",
    "hair drier": "hair dryer",
    "jean": "jeans",
    "pant": "pants",
    "potted plant": "plant",
    "pottedplant": "plant",
    "remote": "remote control",
    "short": "shorts",
    "ski": "skis",
    "sports ball": "ball",
    "tv": "TV",
    "tvmonitor": "TV",
}

# Predicates of scene graphs as words of an expression; None for those that identify nothing.
_PREDICATES: dict[str, str | None] = {
    "across": None,
    "and": None,
    "between": None,
    "for": None,
    "from": None,
    "has": "with",
    "have": "with",
    "laying on": "lying on",
    "made of": None,
    "on back of": "on the back of",
    "part of": None,
    "says": None,
    "to": None,
    "wears": "wearing",
    "wear": "wearing",
}

# After these predicates the object is new to the reader: "a hat", not "the hat".
_NEW_THINGS = frozenset(
    ["carrying", "covered in", "eating", "holding", "playing", "riding", "using", "wearing", "with"]
)

GARMENTS = frozenset(
    """boot boots cap coat dress glove gloves hat helmet jacket jeans pants shirt shoe shoes shorts
    skirt sneaker sneakers sock socks suit sweater t-shirt tie vest uniform""".split()
)

_UNCOUNTED = frozenset(
    """bread cheese clothing food furniture glasses grass hair jeans luggage men pants people sand
    scissors shorts skis snow sunglasses traffic water women""".split()
)


def say_name(name: str) -> str:
    """Return what people call a class: "dining table" is a table."""
    plain = " ".join(name.replace("_", " ").split())
    return _SAID.get(plain.lower(), plain)


def say_predicate(predicate: str) -> str | None:
    """Return the words between subject and object, or None if the predicate identifies nothing."""
    plain = " ".join(predicate.lower().replace("_", " ").split())
    words = plain.split()
    if words and words[0] in ("is", "are") and len(words) > 1:
        words = words[1:]
    if words and words[-1] in ("a", "an", "the"):
        words = words[:-1]
    plain = " ".join(words)
    return _PREDICATES.get(plain, plain or None)


def say_object(predicate: str, name: str) -> str:
    """Return a name with the article that fits after a predicate's words.

    Example:
        >>> say_object("wearing", "hat"), say_object("on", "bench"), say_object("with", "hair")
        ('a hat', 'the bench', 'hair')
    """
    is_new = predicate in _NEW_THINGS or (predicate == "in" and name in GARMENTS)
    return add_article(name) if is_new else f"the {name}"


def add_article(name: str) -> str:
    """Return a name with "a" or "an", or alone if it is plural or uncountable."""
    if not name or name.lower().split()[-1] in _UNCOUNTED:
        return name
    return f"{article(name)} {name}"
