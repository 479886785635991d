"""Find adjacent packed sequences of equal lengths, which one dense product can handle together."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise


@dataclass(frozen=True)
class Run:
    """Adjacent sequences that have equal numbers of queries and of keys."""

    first_query: int  # where their queries begin
    first_key: int  # where their keys begin
    count: int  # number of sequences
    queries: int  # of each sequence
    keys: int  # of each sequence

    @property
    def query_tokens(self) -> slice:
        """Tokens of their queries."""
        return slice(self.first_query, self.first_query + self.count * self.queries)

    @property
    def key_tokens(self) -> slice:
        """Tokens of their keys."""
        return slice(self.first_key, self.first_key + self.count * self.keys)

    def is_continued_by(self, other: Run) -> bool:
        """Whether `other` has the same lengths and follows this run."""
        lengths, others = (self.queries, self.keys), (other.queries, other.keys)
        return lengths == others and self.key_tokens.stop == other.first_key


def equal_runs(
    edges_of_queries: Sequence[int], edges_of_keys: Sequence[int], most: int = sys.maxsize
) -> Iterator[Run]:
    """Yield all sequences that have queries, adjacent ones of equal lengths as one run.

    Args:
        edges_of_queries: (B + 1,), where each sequence's queries begin and the last ones end.
        edges_of_keys: (B + 1,), the same for the keys.
        most: most attention weights of a run of two or more, count * queries * keys; 0 keeps every
            sequence that has keys by itself.
    """
    run: Run | None = None
    for (query, end_query), (key, end_key) in zip(
        pairwise(edges_of_queries), pairwise(edges_of_keys), strict=True
    ):
        if query == end_query:
            continue
        each = Run(query, key, 1, end_query - query, end_key - key)
        if run and run.is_continued_by(each) and (run.count + 1) * run.queries * run.keys <= most:
            run = replace(run, count=run.count + 1)
            continue
        if run:
            yield run
        run = each
    if run:
        yield run
