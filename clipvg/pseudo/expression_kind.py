"""How an expression tells its object from others: by a second thing, a place, its looks, its name.

The kinds are those of rendered scenes (`clipvg.data.scenes.language`), and "name". They are told by
the word lists of the entity counter, so its limits hold here too.
"""

from __future__ import annotations

from clipvg.pseudo.entities import entity_heads, is_adjective, split_expression
from clipvg.pseudo.words import PLACES

KINDS = ("relation", "position", "attribute", "name")
_ORDINALS = frozenset("first second third fourth fifth 1st 2nd 3rd 4th 5th last".split())


def kind_of(expression: str) -> str:
    """Return one of `KINDS`, the first that fits.

    - "relation": names a second thing: "man in a red shirt", "cup next to the plate";
    - "position": says where: "left man", "second dog from the right";
    - "attribute": says how it looks: "red cup", "biggest dog";
    - "name": nothing but what it is called: "dog", "the stop sign".

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
