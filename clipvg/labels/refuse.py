"""What readers refuse: names that lead elsewhere, boxes misread, rows that are no labels."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Literal

import numpy as np

from clipvg.errors import InputError
from clipvg.labels.check.finding import Finding
from clipvg.labels.check.misread import find_misreading
from clipvg.labels.check.names import find_outside
from clipvg.labels.check.rows import find_bad_rows
from clipvg.labels.schema import FAULT
from clipvg.labels.table import LabelTable
from clipvg.labels.units import find_sizes

OnError = Literal["raise", "drop", "keep"]
_OPENED = 64  # images whose size tells the format of boxes, where no column does


def refuse_outside(
    labels: LabelTable,
    path: Path,
    rows: np.ndarray,
    otherwise: str = "allow_outside_root=True if you trust the file",
) -> None:
    """Raise where the name of an image leads out of the image root."""
    if labels.images is None:
        return
    outside = np.flatnonzero(find_outside(labels, os.path.abspath(labels.images)))
    if len(outside):
        name = labels.table.column("image")[int(outside[0])].as_py()
        raise InputError(
            f"{path} row {rows[outside[0]]}: image {name!r} leads out of the folder of images (so "
            f"many do: {len(outside):,}). Write names below it, or pass {otherwise}"
        )


def refuse_misread(labels: LabelTable, path: Path, rows: np.ndarray, *, warn: bool) -> None:
    """Raise where boxes look like those of another format or unit, or warn; see `refuse_outside`.

    Somebody who says the format of boxes knows best.
    """
    sizes = labels.sizes() if labels.images is None else find_sizes(labels, most=_OPENED)
    for found in find_misreading(labels, sizes):
        message = f"{path}: {found.numbered(rows).message}"
        if not warn:
            raise InputError(message)
        warnings.warn(message, stacklevel=5)


def refuse_bad_rows(
    labels: LabelTable, path: Path, rows: np.ndarray, on_error: OnError
) -> LabelTable:
    """Raise on rows that cannot be labels, or leave them out; see `refuse_outside`."""
    if on_error == "keep":
        return labels
    findings = sorted(find_bad_rows(labels), key=lambda found: found.rows[0])
    labels = labels.drop_columns(FAULT)
    if not findings:
        return labels
    numbered = [found.numbered(rows) for found in findings]
    if on_error == "raise":
        raise InputError(_refusal(numbered, path))
    bad = np.unique(np.concatenate([found.rows for found in findings]))
    warnings.warn(
        f"{path}: dropped {len(bad)} of {len(labels)} rows ({_counts(findings)})", stacklevel=5
    )
    kept = labels.select(np.setdiff1d(np.arange(len(labels)), bad))
    kept.dropped = tuple(numbered)
    return kept


def _refusal(findings: list[Finding], path: Path) -> str:
    first, count = findings[0], sum(found.count for found in findings)
    others = f" {count} such findings: {_counts(findings)}." if count > 1 else ""
    remedy = first.remedy if others else first.remedy.replace("the rows", "the row")
    return f"{path} {first.places[0]}: {first.examples[0]}.{others} {remedy}"


def _counts(findings: list[Finding]) -> str:
    ordered = sorted(findings, key=lambda found: -found.count)
    return ", ".join(f"{found.count} {found.kind}" for found in ordered)
