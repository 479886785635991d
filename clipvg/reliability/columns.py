"""Scores as columns of a table: ``reliability.NAME``, ``unscored``, and who was trained on what."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from clipvg.labels import LabelTable

COLUMN = "reliability."
REASON = "unscored"
METADATA = b"clipvg.measurers"


def read_metadata(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return what the measurers of a table were trained on, by name."""
    return dict(json.loads((metadata or {}).get(METADATA, b"{}")))


def reason_column(reasons: Mapping[int, str], count: int) -> pa.Array:
    """Return a column of reasons, null for labels that have none."""
    words = list(dict.fromkeys(reasons.values()))
    place = {reason: i for i, reason in enumerate(words)}
    codes = np.full(count, -1, np.int32)
    codes[list(reasons)] = [place[reason] for reason in reasons.values()]
    indices = pa.array(codes, mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.string())).cast(pa.string())


def with_reasons(labels: LabelTable, reasons: dict[int, str]) -> LabelTable:
    """Keep a reason only where some measurer's score is still missing."""
    if not reasons:
        return labels
    missing = np.any([np.isnan(labels.reliability(n)) for n in labels.reliability_names], axis=0)
    left = {row: reason for row, reason in reasons.items() if missing[row]}
    if left:
        return labels.with_column(REASON, reason_column(left, len(labels)))
    return labels.drop_columns([REASON]) if REASON in labels.table.column_names else labels


def read_reasons(table: pa.Table) -> dict[int, str]:
    """Return why rows of a table are not scored."""
    if REASON not in table.column_names:
        return {}
    column = table[REASON]
    rows = np.flatnonzero(column.is_valid().to_numpy())
    return dict(zip(rows.tolist(), column.drop_null().to_pylist(), strict=True))
