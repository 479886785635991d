"""Parse what an expression says of its object, in the vocabulary of the observations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from clipvg.pseudo.caption.clause import drop_article
from clipvg.pseudo.caption.match import called_by
from clipvg.pseudo.caption.parse import split_words
from clipvg.pseudo.caption.rules import read_clauses
from clipvg.pseudo.kinds import WORN_OR_HELD
from clipvg.pseudo.meaning.extremes import EXTREMES, NUMBERS, ORDINALS
from clipvg.pseudo.observations import ObservationTable
from clipvg.pseudo.relation.rules import HOLDING, NEXT_TO, PLACES, Rule
from clipvg.pseudo.relation.wording import say_predicate
from clipvg.pseudo.template.names import may_mean, spoken
from clipvg.pseudo.words import (
    BOUNDARIES,
    DETERMINERS,
    MEASURES,
    PRONOUNS,
    is_plural,
    make_singular,
)
from clipvg.pseudo.words import PLACES as PLACE_WORDS

SAID_FOR = {
    "below": ("under", "beneath", "underneath"),
    "above": ("over",),
    "next to": ("beside", "near", "by", "alongside"),
    "to the left of": ("left of", "on the left of", "at the left of"),
    "to the right of": ("right of", "on the right of", "at the right of"),
    "with": ("wearing", "holding", "carrying", "in"),
}
_PLAIN = {rule.words: rule for rule in (*PLACES, NEXT_TO, HOLDING)}
_RULES = {word: _PLAIN[words] for words, more in SAID_FOR.items() for word in more} | _PLAIN
_MANY = NUMBERS - {"one"} | {"several", "many", "some", "all", "both", "few"}
_SAYING_NOTHING = DETERMINERS | PRONOUNS | MEASURES | PLACE_WORDS | NUMBERS | BOUNDARIES | _MANY


@dataclass(frozen=True)
class Meaning:
    """Parsed meaning of an expression."""

    names: frozenset[str] | None = None  # classes of its noun; None where it has none: "far left"
    words: tuple[str, ...] = ()  # attributes
    extremes: tuple[str, ...] = ()  # values of `EXTREMES` that single the object out
    nth: int = 0  # number of objects that come before it, 1 in "second from the left"
    # relation to a landmark: a rule of geometry, or the words of a scene graph's predicate
    relation: Rule | str | None = None
    landmark: Meaning | None = None  # meaning of the landmark's words
    unknown: tuple[str, ...] = ()  # words that no observation uses
    is_several: bool = False  # whether several objects are meant

    def names_class(self, name: str) -> bool:
        """Return whether the noun may mean a class."""
        return self.names is None or name in self.names


@dataclass(frozen=True)
class Vocabulary:
    """The words that observations use."""

    names: frozenset[str]  # classes
    attributes: frozenset[str]  # single words, lower-cased
    predicates: frozenset[str]  # of scene graphs, as people say them
    _read: dict[str, Meaning] = field(default_factory=dict, compare=False)
    _called: dict[tuple[str, ...], frozenset[str]] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, observations: ObservationTable) -> Vocabulary:
        """Return the words of a table of observations."""
        names: set[str] = set()
        attributes: set[str] = set()
        for column in ("detections", "attribute_detections"):
            found = observations.entries(column)
            names |= _distinct(part.field("class") for part in found)
            attributes |= _distinct(
                part.field("attributes").flatten().field("word") for part in found
            )
        edges = observations.entries("relations")
        names |= _distinct(part.field(end) for part in edges for end in ("subject", "object"))
        said = map(say_predicate, _distinct(part.field("predicate") for part in edges))
        return cls(
            frozenset(names), frozenset(map(str.lower, attributes)), frozenset(filter(None, said))
        )

    def read(self, expression: str) -> Meaning:
        """Return the meaning of an expression; each distinct one is parsed once."""
        if expression not in self._read:
            clause = next(iter(read_clauses(expression)), None)
            text = expression if clause is None else clause.expression
            self._read[expression] = self._meaning(split_words(text.lower()))
        return self._read[expression]

    def _meaning(self, words: Sequence[str]) -> Meaning:
        for start in range(1, len(words)):
            for length in range(min(5, len(words) - start - 1), 0, -1):
                said = " ".join(words[start : start + length])
                landmark = words[start + length :]
                if (relation := self._relation(said)) and self._noun(landmark)[0]:
                    return self._related(words[:start], relation, landmark)
        return self._looks(words)

    def _relation(self, said: str) -> Rule | str | None:
        return _RULES.get(said) or (said if said in self.predicates else None)

    def _related(
        self, words: Sequence[str], relation: Rule | str, landmark: Sequence[str]
    ) -> Meaning:
        subject, other = self._looks(words), self._meaning(landmark)
        if isinstance(relation, Rule) and other.names and other.names & WORN_OR_HELD:
            relation = HOLDING
        unknown = (*subject.unknown, *other.unknown)
        return replace(subject, relation=relation, landmark=other, unknown=unknown)

    def _noun(self, words: Sequence[str]) -> tuple[frozenset[str], bool]:
        """Return the classes that the first known noun may mean, and whether it is plural."""
        for noun in _nouns(words):
            if noun not in self._called:
                self._called[noun] = self._classes(noun)
            if called := self._called[noun]:
                return called, is_plural(noun[-1])
        return frozenset(), False

    def _classes(self, noun: tuple[str, ...]) -> frozenset[str]:
        """Return the classes that a noun names, and those of which it may be said as well."""
        called = called_by((*noun[:-1], make_singular(noun[-1])), self.names)
        said = [spoken(one) for one in called]
        alike = (n for n in self.names if any(may_mean(one, spoken(n)) for one in said))
        return frozenset(called).union(alike)

    def _looks(self, words: Sequence[str]) -> Meaning:
        names, means_many = self._noun(words)
        extremes = dict.fromkeys(EXTREMES[word] for word in words if word in EXTREMES)
        said = [word for word in words if word not in _SAYING_NOTHING and word[0].isalnum()]
        attributes = tuple(word for word in said if word in self.attributes)
        known = {*attributes, *EXTREMES, *ORDINALS}
        unknown = tuple(w for w in said if w not in known and not _is_name(w, names))
        nth = next((ORDINALS[word] for word in words if word in ORDINALS), 0)
        return Meaning(
            names=names or (frozenset() if unknown else None),
            words=attributes,
            extremes=tuple(extremes),
            nth=nth if extremes else 0,
            unknown=unknown,
            is_several=(means_many or bool(_MANY & {*words})) and not extremes,
        )


def _nouns(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    """Yield the noun phrases of some words in order, without words for places."""
    phrase: list[str] = []
    for word in [*drop_article(list(words)), "."]:
        if word in EXTREMES or word in PLACE_WORDS or word in NUMBERS:
            continue
        if word in BOUNDARIES or word in DETERMINERS or not word[0].isalnum():
            if word in DETERMINERS and len(phrase) > 1:
                phrase.pop()  # a verb, as in "dog chases the cat"
            if phrase:
                yield tuple(phrase)
            phrase = []
        else:
            phrase.append(word)


def _is_name(word: str, names: frozenset[str]) -> bool:
    """Return whether a word is part of a class's name, or names a class."""
    word = make_singular(word)
    return any(word in name.lower().split() for name in names) or bool(called_by((word,), names))


def _distinct(parts: Iterable[pa.Array]) -> set[str]:
    return {value for part in parts for value in part.unique().to_pylist()}
