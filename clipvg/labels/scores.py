"""Scores in a table: columns ``reliability.NAME`` and ``unscored``, measurers' training data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from clipvg.labels.schema import RELIABILITY
from clipvg.labels.table import LabelTable

REASON = "unscored"
_METADATA = b"clipvg.measurers"


def score_columns(
    scores: Mapping[str, np.ndarray], reasons: Mapping[int, str] | None = None
) -> dict[str, pa.Array]:
    """Return a column per measurer, null where not scored, and one of reasons, by column name."""
    columns = {
        RELIABILITY + name: pa.array(values, pa.float32(), mask=np.isnan(values))
        for name, values in scores.items()
    }
    if reasons:
        columns[REASON] = reason_column(reasons, len(next(iter(scores.values()))))
    return columns


def read_scores(table: pa.Table) -> dict[str, np.ndarray]:
    """Return the scores in a table by measurer, (N,) float32 each, NaN where not scored."""
    names = [name for name in table.column_names if name.startswith(RELIABILITY)]
    return {n.removeprefix(RELIABILITY): table[n].to_numpy().astype(np.float32) for n in names}


def with_trained_on(
    table: pa.Table, names: Iterable[str], trained_on: Iterable[Iterable[str]]
) -> pa.Table:
    """Record in a table what measurers were trained on, in addition to those it knows."""
    known = read_trained_on(table) | {n: [*s] for n, s in zip(names, trained_on, strict=True)}
    metadata = {**(table.schema.metadata or {}), _METADATA: json.dumps(known).encode()}
    return table.replace_schema_metadata(metadata)


def read_trained_on(table: pa.Table) -> dict[str, list[str]]:
    """Return what each measurer of a table was trained on, by name."""
    return dict(json.loads((table.schema.metadata or {}).get(_METADATA, b"{}")))


def reason_column(reasons: Mapping[int, str], count: int) -> pa.Array:
    """Return a column of reasons, null for labels that have none."""
    column = np.full(count, None, object)
    column[list(reasons)] = list(reasons.values())
    return pa.array(column, pa.string())


def with_reasons(labels: LabelTable, reasons: dict[int, str]) -> LabelTable:
    """Set the column of reasons, keeping those for which some measurer's score is still missing."""
    if not reasons:
        return labels
    missing = np.any([np.isnan(labels.reliability(n)) for n in labels.reliability_names], axis=0)
    left = {row: reason for row, reason in reasons.items() if missing[row]}
    if left:
        return labels.with_column(REASON, reason_column(left, len(labels)))
    return labels.drop_columns([REASON]) if REASON in labels.table.column_names else labels


def read_reasons(table: pa.Table) -> dict[int, str]:
    """Return why rows of a table are not scored, by row."""
    if REASON not in table.column_names:
        return {}
    column = table[REASON]
    rows = np.flatnonzero(column.is_valid().to_numpy())
    return dict(zip(rows.tolist(), column.drop_null().to_pylist(), strict=True))
