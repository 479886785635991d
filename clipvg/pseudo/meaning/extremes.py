"""Words of place, order and size that single one object out of several: "second from the left"."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from clipvg.pseudo.entities import entity_heads, is_adjective
from clipvg.pseudo.words import ADJECTIVES, BOUNDARIES, DETERMINERS

# Words that single out one of several, and the criterion of each: a side, the middle, the size.
EXTREMES = {
    **dict.fromkeys(("left", "leftmost", "leftest", "lft"), "left"),
    **dict.fromkeys(("right", "rightmost", "rightest", "rt"), "right"),
    **dict.fromkeys(("top", "topmost", "upper", "uppermost", "highest"), "top"),
    **dict.fromkeys(("bottom", "lower", "lowest"), "bottom"),
    **dict.fromkeys(("middle", "center", "centre", "mid"), "middle"),
    **dict.fromkeys(("big", "bigger", "biggest", "large", "larger", "largest"), "big"),
    **dict.fromkeys(("front", "close", "closer", "closest", "near", "nearer", "nearest"), "big"),
    **dict.fromkeys(("small", "smaller", "smallest", "little", "tiny"), "small"),
    **dict.fromkeys(("background", "back", "far", "farther", "farthest"), "small"),
    **dict.fromkeys(("further", "furthest"), "small"),
}  # fmt: skip
# Those of `EXTREMES` that often mean something else: "close to the wall", "little boy".
LOOSE = frozenset("front close near back far background little lower".split())
ORDINALS = {
    word: count
    for words in ("first second third fourth fifth sixth", "1st 2nd 3rd 4th 5th 6th")
    for count, word in enumerate(words.split())
}
NUMBERS = frozenset("one two three four five six seven eight nine ten".split())

PLACING = frozenset("on in at to from of the far very dead".split())
# Words for the image and for its viewer.
WHOLE = frozenset("picture image photo photograph pic screen frame us me you camera viewer".split())
ONES = frozenset({"one", "ones", "other"})
_MIDDLE = frozenset("middle center centre".split())
_SIDE_WORDS = frozenset("side corner part half edge end hand most row area".split())
_NEARNESS = frozenset(
    "close closer closest near nearer nearest far farther farthest further furthest".split()
)
_TURNED = frozenset(
    """driving faces facing going headed heading leaning looking looks moving pointed pointing
    running turned turning walking""".split()
)
_OWN = frozenset("his her its their my your with 's".split())  # a left hand is not on the left
_HANDS = frozenset("arm arms hand hands".split())
_ENDS = frozenset("foot feet leg legs paw paws tire tires wheel wheels".split())
# Before these, "right" is not a side: "right next to".
_RIGHT_BEFORE = frozenset("next behind beside by near above below under against".split())
_COUNTED = {
    word: count
    for words in ("2 3 4 5 6", "two three four five six")
    for count, word in enumerate(words.split(), 1)
}


def find_extremes(words: Sequence[str]) -> tuple[tuple[str, ...], int, set[int]]:
    """Return what singles an object out among others of its kind.

    Args:
        words: lower-cased words about one thing.

    Returns:
        values of `EXTREMES`; the number of objects that come before this one; indices of the words
        that say so.
    """
    found: list[str] = []
    said: set[int] = set()
    for i, word in enumerate(words):
        if word in EXTREMES and i not in said and _singles_out(words, i):
            found.append(EXTREMES[word])
            said |= _around(words, i)
    if not found:
        return (), 0, said
    nth, counted = _count(words)
    return tuple(dict.fromkeys(found)), nth, said | counted


def is_noun(word: str) -> bool:
    """Return whether a word may name a thing."""
    return bool(entity_heads(f"the {word}")) and word not in EXTREMES


def _word(words: Sequence[str], index: int) -> str:
    return words[index] if 0 <= index < len(words) else ""


def _before(words: Sequence[str], index: int, passed: Collection[str]) -> int:
    """Return the index of the nearest word before `index` that is not in `passed`, or -1."""
    index -= 1
    while index >= 0 and words[index] in passed:
        index -= 1
    return index


def _count(words: Sequence[str]) -> tuple[int, set[int]]:
    """Return how many come before (1 for "second"), and the indices of the words that say so."""
    counts = {i: ORDINALS[word] for i, word in enumerate(words) if word in ORDINALS}
    said = {*counts} | {i + 1 for i in counts if _word(words, i + 1) == "row"}
    for at in (i for i, word in enumerate(words) if word == "from"):
        if _word(words, at - 1) in _COUNTED:  # "two from left" is the second
            return _COUNTED[words[at - 1]], said | {at - 1}
        if near := [i for i in counts if at - 4 < i < at]:
            return counts[near[-1]], said
    return next(iter(counts.values()), 0), said


def _singles_out(words: Sequence[str], index: int) -> bool:
    """Return whether a word of place or size singles the object out, and means nothing else."""
    word, before, after = words[index], _word(words, index - 1), _word(words, index + 1)
    if before in _OWN or (word == "back" and after in ("to", "turned")):
        return False  # "with his back to us"
    if (after in _ENDS and word in ("front", "back")) or (after in _HANDS and before == "in"):
        return False  # "back wheel", "racket in left hand"
    if _is_turned_or_not(words, index) or _is_of_another(words, index):
        return False
    if word in _NEARNESS and (is_near := _is_near_us(words, index)) is not None:
        return is_near
    if after == "of" and word in LOOSE | _MIDDLE | {"top", "bottom"}:
        # "in front of", "top of the stairs", but "top of the image", "middle of the three"
        return bool((WHOLE | NUMBERS) & {*words[index + 2 : index + 4]})
    if after in EXTREMES and word in _NEARNESS:
        return False  # "far left": the next word says where
    if word == "top" and before in ADJECTIVES:
        return False  # "white top"
    if word == "right" and before not in PLACING and before not in EXTREMES:
        return after not in _RIGHT_BEFORE and words[index + 1 : index + 3] != ["in", "front"]
    if word not in LOOSE or not after or after in BOUNDARIES or before == "the":
        return True
    if after in _SIDE_WORDS or after in EXTREMES or before in EXTREMES:
        return True
    return not index and word in ("front", "back", "background", "far")  # "front bus", "little boy"


def _is_turned_or_not(words: Sequence[str], index: int) -> bool:
    """Return whether a word says which way something faces, or is negated: "not left"."""
    turned = _before(words, index, ("to", "toward", "towards", "the"))
    denied = _before(words, index, PLACING | DETERMINERS)
    return _word(words, turned) in _TURNED or _word(words, denied) in ("not", "n't")


def _is_of_another(words: Sequence[str], index: int) -> bool:
    """Return whether a word is about a second thing: "man with big hat", "behind the left one"."""
    after = _word(words, index + 1)
    if not (after in ONES or is_noun(after)) or after in _SIDE_WORDS:
        return False
    looks = {word for word in words[:index] if is_adjective(word)}
    start = _before(words, index, DETERMINERS | NUMBERS | looks)
    if start < 1 or is_noun(words[start]) or not any(map(is_noun, words[:start])):
        return False
    return EXTREMES[words[index]] in ("big", "small") or words[start] not in PLACING


def _is_near_us(words: Sequence[str], index: int) -> bool | None:
    """Return whether something is near the viewer, not another thing; None if neither is named."""
    rest = [word for word in words[index + 1 :] if word not in DETERMINERS]
    is_led = rest[:1] in (["to"], ["from"])
    target = _word(rest, int(is_led))
    is_named = is_led or (words[index] not in LOOSE - {"close"} and target not in BOUNDARIES)
    if not target or not is_named:
        return None
    if target in WHOLE:
        return True
    # "closest to the window", "bed nearest window", but "nearest bed"
    is_other = is_led or words[index] == "close" or any(map(is_noun, words[:index]))
    return False if is_other else None


def _around(words: Sequence[str], index: int) -> set[int]:
    """Return indices of a place word and those that belong to it: "on the", "of the image"."""
    after = index + 1
    while _word(words, after) in _SIDE_WORDS:
        if words[after] == "hand" and (not words[after + 1 :] or words[after + 1] in BOUNDARIES):
            break  # "left hand of the man", but "left hand side"
        after += 1
    found = {*range(index, after)} | _seen_from(words, index, after)
    is_part = _word(words, after) == "of" and after > index + 1 and after not in found
    if is_part:  # "on the left end of the couch" is on the couch
        found.add(after)
    before = _before(words, index, PLACING | _NEARNESS)
    # words that lead to a place that a thing is in or on stay: "train on the left track"
    is_led = before >= 0 and (is_part or is_noun(_word(words, after)))
    return found if is_led else found | {*range(before + 1, index)}


def _seen_from(words: Sequence[str], index: int, after: int) -> set[int]:
    """Return indices of words for the whole image or its viewer: "of the image", "to us"."""
    ends = WHOLE | _MIDDLE if _word(words, after) == "of" else WHOLE
    is_near = words[index] in _NEARNESS  # "the closest dog to us"
    tail = range(after, len(words) if is_near else min(after + 4, len(words)))
    whole = next((i for i in tail if words[i] in ends), -1)
    start = max(after, _before(words, whole, PLACING | DETERMINERS) + 1)
    is_led = start == after or (is_near and words[start] in ("to", "from"))
    return {*range(start, whole + 1)} if whole >= 0 and is_led else set()
