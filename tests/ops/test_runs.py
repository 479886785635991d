"""Runs of equal lengths among packed sequences."""

from __future__ import annotations

from itertools import accumulate

from clipvg.ops.runs import Run, equal_runs


def edges(lengths: list[int]) -> list[int]:
    return [0, *accumulate(lengths)]


def test_equal_lengths_side_by_side_are_one_run() -> None:
    own = edges([3, 3, 5, 3])
    runs = list(equal_runs(own, own))
    assert runs == [Run(0, 0, 2, 3, 3), Run(6, 6, 1, 5, 5), Run(11, 11, 1, 3, 3)]
    assert [run.key_tokens for run in runs] == [slice(0, 6), slice(6, 11), slice(11, 14)]


def test_one_query_a_sequence() -> None:
    runs = list(equal_runs([0, 1, 2, 3], edges([4, 4, 2])))
    assert [(run.query_tokens, run.key_tokens) for run in runs] == [
        (slice(0, 2), slice(0, 8)),
        (slice(2, 3), slice(8, 10)),
    ]


def test_sequences_without_queries_are_left_out_and_end_a_run() -> None:
    runs = list(equal_runs(edges([2, 0, 2]), edges([1, 1, 1])))
    assert runs == [Run(0, 0, 1, 2, 1), Run(2, 2, 1, 2, 1)]
    assert list(equal_runs([0], [0])) == []


def test_a_run_has_no_more_weights_than_asked_for() -> None:
    own = edges([2] * 5)
    assert [run.count for run in equal_runs(own, own, most=8)] == [2, 2, 1]
    assert [run.count for run in equal_runs(own, own, most=0)] == [1] * 5
