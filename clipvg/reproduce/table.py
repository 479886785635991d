"""Tables of our results beside the paper's and those of other methods of the same setting.

The numbers that the paper and others report, on the usual splits, are in `published.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from clipvg.report.numbers import Markup, draw_grid
from clipvg.reproduce.datasets import columns_of
from clipvg.runtime.files import Json

NOTHING = "–"


@dataclass(frozen=True)
class Published:
    """One method's Acc@0.5 in percent.

    Attributes:
        method: its name.
        setting: what it learns from: "single-source", "multi-source", "weakly supervised", "fully
            supervised", "fully supervised, larger" or "zero-shot".
        source: where the numbers come from.
        row: the row of ours that reproduces it; "" for methods of others.
        values: benchmark -> a number per column, None where none is published.
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


def draw_table(result: Json, markup: Markup = "markdown") -> str:
    """Return the table of a result of `reproduce`, Acc@0.5 in percent: ours below the paper's.

    Ours are followed by the difference to the paper's. Other methods of the same settings are
    included; all methods are, if a row is of a model whose setting is not known.

    Args:
        result: result of `reproduce`.
        markup: "markdown" or "latex".
    """
    benchmark = result["benchmark"]
    columns = columns_of(benchmark)
    ours = {row["row"]: row["splits"] for row in result["rows"]}
    published = [each for each in read_published() if benchmark in each.values]
    own = ours.keys() - {each.row for each in published}
    settings = {each.setting for each in published if each.row in ours or own}
    rows = [
        row
        for each in published
        if each.setting in settings
        for row in _rows(each, benchmark, columns, ours)
    ]
    rows += [
        (name, *_cells(ours[name], columns, ()), "not said", "this run")
        for name in ours
        if name in own
    ]
    return draw_grid(("method", *columns, "setting", "numbers from"), rows, markup)


def draw_aurocs(result: Json, markup: Markup = "markdown") -> str:
    """Return the table of a result of `reproduce_ref_l4`, the best measure first."""
    names = list(dict.fromkeys(name for row in result["rows"] for name in row["splits"]))
    facts = {name: split for row in result["rows"] for name, split in row["splits"].items()}
    header = [
        f"{name} ({facts[name]['wrong']:,} of {facts[name]['count']:,} wrong)" for name in names
    ]
    rows = []
    for row in result["rows"]:
        values = [row["splits"].get(name, {}).get("auroc") for name in names]
        known = [value for value in values if value is not None]
        cells = [NOTHING if value is None else f"{value:.3f}" for value in values]
        mean = sum(known) / len(known) if known else -1.0
        rows.append((mean, (row["row"], *cells)))
    rows.sort(key=lambda row: -row[0])
    return draw_grid(("AUROC of measure", *header), [cells for _, cells in rows], markup)


def other_counts(result: Json) -> list[str]:
    """Return a line for each split that has another number of expressions than published."""
    found = {}
    for row in result["rows"]:
        for column, split in row["splits"].items():
            if _is_other(split):
                found[column] = (
                    f"{column}: {split['count']:,} expressions in {split['file']}, published are "
                    f"{split['expected']:,}; the numbers are not comparable"
                )
    return list(found.values())


def _rows(
    each: Published, benchmark: str, columns: Sequence[str], ours: Json
) -> Iterator[tuple[str, ...]]:
    """Yield a published method and, if it was reproduced here, our row."""
    values = each.values[benchmark]
    is_released = each.row.endswith("-checkpoint")
    if each.row in ours or not is_released:  # these nearly repeat the paper's
        cells = [NOTHING if value is None else f"{value:.2f}" for value in values]
        yield each.method, *cells, each.setting, each.source
    if each.row in ours:
        cells = _cells(ours[each.row], columns, values)
        yield f"{each.method}, ours", *cells, each.setting, "this run"


def _cells(splits: Json, columns: Sequence[str], values: Sequence[float | None]) -> list[str]:
    """Return our Acc@0.5 by column, with the difference to the published values."""
    cells = []
    for i, column in enumerate(columns):
        split = splits.get(column)
        if split is None or split["acc_0.5"] is None:
            cells.append(NOTHING)
            continue
        share = 100 * split["acc_0.5"]
        reference = values[i] if i < len(values) else None
        is_other = _is_other(split)
        gap = "" if reference is None or is_other else f" ({share - reference:+.2f})"
        cells.append(f"{share:.2f}{gap}{'*' if is_other else ''}")
    return cells


def _is_other(split: Json) -> bool:
    """Whether a split has another number of expressions than published, if that is known."""
    return split["expected"] is not None and split["count"] != split["expected"]
