"""Pairs of labels that share an image, and the similarity of their words, vectorised."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

PAIRS_PER_BLOCK = 1_000_000
_WORD = re.compile(r"\w+(?:'\w+)?")


def words(expression: str) -> list[str]:
    """Return the words of an expression, lower-cased, without punctuation."""
    return _WORD.findall(expression.lower())


def plain(expression: str) -> str:
    """Return an expression's words joined by single spaces, to compare expressions by."""
    return " ".join(words(expression))


def pairs_within(group: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all ordered pairs (i, j) of different rows of one group, (P,) int64 each, in blocks.

    All pairs with the same i are in one block.
    """
    order = np.argsort(group, kind="stable")
    _, first, sizes = np.unique(group[order], return_index=True, return_counts=True)
    size = np.repeat(sizes, sizes)  # size of the group at each place in `order`
    start = np.repeat(first, sizes)
    ends = np.cumsum(size)
    cut = 0
    while cut < len(order):
        done = ends[cut] - size[cut]
        stop = max(cut + 1, int(np.searchsorted(ends, done + PAIRS_PER_BLOCK, side="right")))
        part = slice(cut, stop)
        i = np.repeat(np.arange(cut, stop), size[part])
        j = np.arange(len(i)) - np.repeat(ends[part] - size[part] - done, size[part])
        j += np.repeat(start[part], size[part])
        different = i != j
        yield order[i[different]], order[j[different]]
        cut = stop


def group_numbers(keys: Sequence[object]) -> np.ndarray:
    """Return the index of each key among the distinct ones in order of appearance, (N,) int64."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


class WordSets:
    """Sets of words of N expressions; each distinct expression is split only once."""

    def __init__(self, expressions: Sequence[str]) -> None:
        distinct = group_numbers(expressions)
        vocabulary: dict[str, int] = {}
        texts = list(dict.fromkeys(expressions))
        sets = [
            sorted({vocabulary.setdefault(word, len(vocabulary)) for word in words(text)})
            for text in texts
        ]
        self._of = distinct
        self._sizes = np.array([len(members) for members in sets], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)])
        self._members = np.array([w for members in sets for w in members], dtype=np.int64)
        self._vocabulary = max(len(vocabulary), 1)

    def jaccard(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Return the Jaccard similarity of the words of rows i and j, (P,); 0 without words."""
        i, j = self._of[i], self._of[j]
        both = np.concatenate([self._keyed(i), self._keyed(j)])
        keys, counts = np.unique(both, return_counts=True)
        shared = np.bincount(keys[counts == 2] // self._vocabulary, minlength=len(i))
        either = self._sizes[i] + self._sizes[j] - shared
        return shared / np.maximum(either, 1)

    def _keyed(self, texts: np.ndarray) -> np.ndarray:
        """Return the key ``pair * vocabulary + word`` for each word of each pair's text."""
        sizes = self._sizes[texts]
        pair = np.repeat(np.arange(len(texts)), sizes)
        offset = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return pair * self._vocabulary + self._members[self._starts[texts][pair] + offset]
