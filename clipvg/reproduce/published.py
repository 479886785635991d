"""What others and the paper report, in the splits that everybody uses: `published.yaml`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Published:
    """One method's Acc@0.5 in percent.

    Attributes:
        method: its name.
        setting: what it learns from: "single-source", "multi-source", "weakly supervised", "fully
            supervised", "fully supervised, larger" or "zero-shot".
        source: where the numbers were read.
        row: the row of ours that reproduces it; "" for methods of others.
        values: by benchmark a number a column, None where none is published.
    """

    method: str
    setting: str
    source: str
    row: str = ""
    values: dict[str, tuple[float | None, ...]] = field(default_factory=dict)


@cache
def read_published() -> tuple[Published, ...]:
    """Return all published rows, in the order of the file."""
    path = Path(__file__).with_name("published.yaml")
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    facts = ("method", "setting", "source", "row")
    return tuple(
        Published(
            **{name: row[name] for name in facts if name in row},
            values={name: tuple(row[name]) for name in row if name not in facts},
        )
        for row in rows
    )


def published_row(row: str) -> Published:
    """Return the published method that a row of ours reproduces."""
    return next(each for each in read_published() if each.row == row)
