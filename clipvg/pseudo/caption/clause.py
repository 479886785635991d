"""Clauses of a caption, each about one subject, extracted from a dependency parse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from clipvg.pseudo.caption.parse import Chunk, Parse
from clipvg.pseudo.words import DETERMINERS, MEASURES, is_plural

# Nouns before "of" that are not the thing itself: they say how much or how many of it there is,
# or how it is shown.
GATHERINGS = MEASURES | frozenset(
    """bouquet bunch close closeup close-up cluster collection crowd flock herd image photo
    photograph picture plate bowl cup glass shot team variety view""".split()
)


@dataclass(frozen=True)
class Clause:
    """One subject of a caption with what is said about it."""

    # the words of its noun phrase without article, lower-cased; the last is the noun
    noun: tuple[str, ...]
    is_plural: bool  # whether it means several things
    expression: str  # the subject and what is said about it, without a leading article


def clauses_of(parse: Parse) -> list[Clause]:
    """Return the clauses of a parsed caption in order, each subject with its own part."""
    return [
        clause
        for chunk in parse.chunks
        if _is_subject(parse, chunk.root) and (clause := _clause(parse, chunk)) is not None
    ]


def drop_article(words: list[str]) -> list[str]:
    """Return words without leading determiners."""
    while words and words[0].lower() in DETERMINERS:
        words = words[1:]
    return words


def join_words(words: list[str]) -> str:
    """Join words to a text, without spaces before punctuation, 's and n't or around hyphens."""
    text = ""
    for word in words:
        is_joined = not text or word[0] in ",.;:!?')" or text[-1] in "(-" or word == "-"
        text += word if is_joined or word == "n't" else f" {word}"
    return text


def _is_subject(parse: Parse, index: int) -> bool:
    token = parse.tokens[index]
    if token.pos == "PRON":
        return False
    if token.dep == "conj":
        return _is_subject(parse, token.head)
    if token.dep in ("nsubj", "nsubjpass"):
        return parse.tokens[token.head].dep != "relcl"
    return token.head == index or (token.dep == "attr" and _is_presented(parse, index))


def _is_presented(parse: Parse, index: int) -> bool:
    """Return whether the token follows "there is" or "this is"."""
    verb = parse.tokens[index].head
    return any(
        token.head == verb and (token.dep == "expl" or token.text.lower() in ("this", "these"))
        for token in parse.tokens
    )


def _clause(parse: Parse, chunk: Chunk) -> Clause | None:
    chunk = _counted(parse, chunk)
    root = parse.tokens[chunk.root]
    noun = drop_article(
        [token.text.lower() for token in parse.tokens[chunk.start : chunk.root + 1]]
    )
    if not noun or root.pos == "PRON":
        return None
    part = sorted(i for i in _part_of(parse, chunk) if parse.tokens[i].text.strip())
    words = drop_article([parse.tokens[i].text for i in part if i not in _left_out(parse, chunk)])
    while words and not words[-1][0].isalnum():
        words.pop()
    if words and words[0].istitle() and chunk.start == 0 and root.pos != "PROPN":
        words[0] = words[0].lower()
    is_several = root.tag in ("NNS", "NNPS") or is_plural(noun[-1])
    return Clause(tuple(noun), is_several, join_words(words)) if words else None


def _counted(parse: Parse, chunk: Chunk) -> Chunk:
    """Return a measure's phrase with what it measures as its head: in "a herd of sheep", sheep."""
    if parse.tokens[chunk.root].text.lower() not in GATHERINGS:
        return chunk
    following = next((other for other in parse.chunks if other.start == chunk.end + 1), None)
    if following and parse.tokens[chunk.end].text.lower() == "of":
        return Chunk(chunk.start, following.end, following.root)
    return chunk


def _part_of(parse: Parse, chunk: Chunk) -> set[int]:
    """Return the tokens of the subject and, if it has a verb, of the predicate."""
    top = _first_root(parse, chunk)
    part = set(range(chunk.start, chunk.end)) | _below(parse, top, without_conjuncts=True)
    token = parse.tokens[top]
    if token.dep in ("nsubj", "nsubjpass"):
        part |= {i for i in _predicate(parse, token.head) if i > top}
    return {i for i in part if i >= chunk.start}


def _first_root(parse: Parse, chunk: Chunk) -> int:
    """Return the token of a chunk whose head is outside it, or that is a root."""
    inside = range(chunk.start, chunk.end)
    return next(
        i for i in inside if parse.tokens[i].head not in inside or parse.tokens[i].head == i
    )


def _predicate(parse: Parse, verb: int) -> Iterator[int]:
    """Yield a verb and its dependents, without clauses that have subjects of their own."""
    yield verb
    for i, token in enumerate(parse.tokens):
        if token.head == verb and i != verb and token.dep not in ("nsubj", "nsubjpass", "punct"):
            below = _below(parse, i)
            if not any(_starts_clause(parse, j) for j in below):
                yield from below


def _starts_clause(parse: Parse, index: int) -> bool:
    token = parse.tokens[index]
    return token.dep.startswith("nsubj") and parse.tokens[token.head].dep not in ("relcl", "acl")


def _below(parse: Parse, top: int, *, without_conjuncts: bool = False) -> set[int]:
    """Return a token and all its descendants."""
    found = {top}
    for i, token in enumerate(parse.tokens):
        if token.head == top and i != top:
            if without_conjuncts and token.dep in ("conj", "cc", "punct"):
                continue
            found |= _below(parse, i)
    return found


def _left_out(parse: Parse, chunk: Chunk) -> set[int]:
    """Return the "is" of "is lying" and "is on": "cat lying on the bed" refers better without."""
    top = _first_root(parse, chunk)
    token = parse.tokens[top]
    if token.dep not in ("nsubj", "nsubjpass"):
        return set()
    verb = token.head
    helpers = {i for i, each in enumerate(parse.tokens) if each.head == verb
               and each.dep in ("aux", "auxpass") and _is_be(each.text)}  # fmt: skip
    if parse.tokens[verb].tag in ("VBG", "VBN"):
        return helpers
    has_place = any(each.head == verb and each.dep == "prep" for each in parse.tokens)
    says_what = any(each.head == verb and each.dep in ("attr", "acomp") for each in parse.tokens)
    return {verb} if _is_be(parse.tokens[verb].text) and has_place and not says_what else set()


def _is_be(word: str) -> bool:
    return word.lower() in ("is", "are", "was", "were")
