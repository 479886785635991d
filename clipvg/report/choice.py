"""Choose the labels that a page shows: the worst, a random sample, or some of each rule."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.labels.schema import RELIABILITY

Rule = tuple[str, str]


@dataclass(frozen=True)
class Choice:
    """Which labels a page shows, and in which order.

    Args:
        worst: show the labels with the lowest reliability, this many, worst first; if no label is
            scored, those with the lowest IoU with the box that the checkpoint predicts.
        sample: show this many labels, drawn at random.
        per_rule: labels to show of each source and rule, if neither worst nor sample is given.
        sort: column of numbers, or measurer, by which labels are ordered, lowest first, and by
            which the worst are found.
        seed: seed of the choice of labels to show.
    """

    worst: int | None = None
    sample: int | None = None
    per_rule: int = 4
    sort: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("worst", "sample", "per_rule"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise InputError(f"{name}={count}: expected a whole number from 1")
        if self.worst is not None and self.sample is not None:
            raise InputError(
                f"worst={self.worst} and sample={self.sample} do not go together; choose one"
            )

    def column(self, labels: LabelTable) -> str | None:
        """Return the column that determines the order; None if there is none.

        Raises:
            InputError: there is no such column, or several measurers and `sort` chooses none.
        """
        if self.sort is not None:
            return labels.column_name(self.sort)
        names = labels.reliability_names
        if self.worst is None or not names:
            return None
        if len(names) > 1:
            raise InputError(
                f"these labels are scored by {', '.join(names)}; choose by which they are worst, "
                f"as in sort={names[0]!r}"
            )
        return RELIABILITY + names[0]

    def rows(
        self,
        labels: LabelTable,
        rules: Sequence[Rule],
        overlap: Callable[[], np.ndarray] | None = None,
    ) -> np.ndarray:
        """Return the rows to show (R,), in order; those without a value come last.

        Raises:
            InputError: as for `column`; or the column holds no numbers, or there is nothing to find
                the worst labels by.
        """
        column = self.column(labels)
        values = None if column is None else _numbers(labels, column)
        if self.worst is None:
            rows = self._drawn(rules)
            return rows if values is None else rows[np.argsort(values[rows], kind="stable")]
        if values is None and overlap is not None:
            values = overlap()
        if values is None:
            raise InputError(
                f"worst={self.worst}: these labels have no reliability; run clipvg score on them "
                "first, or choose a column (sort) or a model (checkpoint) to find the worst by"
            )
        return np.argsort(values, kind="stable")[: self.worst]

    def _drawn(self, rules: Sequence[Rule]) -> np.ndarray:
        state = random.Random(self.seed)
        if self.sample is not None:
            return np.array(sorted(state.sample(range(len(rules)), min(self.sample, len(rules)))))
        by_rule: dict[Rule, list[int]] = {}
        for row, rule in enumerate(rules):
            by_rule.setdefault(rule, []).append(row)
        ordered = sorted(by_rule, key=lambda rule: rule_order(rule, len(by_rule[rule])))
        drawn = [
            sorted(state.sample(by_rule[rule], min(self.per_rule, len(by_rule[rule]))))
            for rule in ordered
        ]
        return np.concatenate(drawn)

    def describe(self, column: str | None, count: int) -> str:
        """Describe in sentences which labels are shown."""
        by = "IoU with the predicted box" if column is None else column
        if by.startswith(RELIABILITY):
            by = f"reliability by {by.removeprefix(RELIABILITY)}"
        if self.worst is not None:
            return f"The {count:,} labels of the lowest {by}, worst first."
        order = "" if column is None else f" In the order of {by}, lowest first."
        if self.sample is not None:
            return f"{count:,} labels, drawn at random with seed {self.seed}.{order}"
        return (
            f"At most {self.per_rule} labels of each rule, drawn at random with seed {self.seed}."
            f"{order}"
        )


def rule_order(rule: Rule, count: int) -> tuple[str, int, str]:
    """Return the key that sorts rules: by source, the most frequent first."""
    return rule[0], -count, rule[1]


def _numbers(labels: LabelTable, column: str) -> np.ndarray:
    """Return the values of a column, (N,) float64, NaN where null."""
    try:
        values = labels.table.column(column).cast(pa.float64()).to_numpy()
    except pa.ArrowException:
        values = np.zeros(0)
    if not np.isfinite(values).any():
        raise InputError(f"column {column!r} holds no numbers to sort by")
    return values
