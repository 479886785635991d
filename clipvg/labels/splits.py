"""Splits of a data set in one table: counting and selecting by column ``split``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipvg.errors import InputError
from clipvg.labels.box_column import as_mask

if TYPE_CHECKING:
    from clipvg.labels.table import LabelTable

SPLIT = "split"


def count_splits(table: pa.Table) -> dict[str, int]:
    """Count the labels of each split, in order of appearance, ignoring those without a split."""
    if SPLIT not in table.column_names:
        return {}
    names = table.column(SPLIT).cast(pa.string()).dictionary_encode().combine_chunks()
    counts = np.bincount(names.indices.drop_null().to_numpy(), minlength=len(names.dictionary))
    found = zip(names.dictionary.to_pylist(), counts.tolist(), strict=True)
    return {name: count for name, count in found if name}


def rows_of_split(table: pa.Table, split: str, *, where: str = "labels") -> np.ndarray:
    """Return which rows (N,) bool belong to a split.

    Raises:
        InputError: the table has no column ``split``.
    """
    if SPLIT not in table.column_names:
        raise InputError(
            f"{where}: no column {SPLIT!r} that could say which labels are {split!r}; ask for "
            "no split, or add the column"
        )
    return as_mask(pc.equal(table.column(SPLIT).cast(pa.string()), split))


def no_such_split(split: str, splits: dict[str, int]) -> InputError:
    """Return the error for a split without labels."""
    there = f"there are {_listed(splits)}" if splits else "no label says of which split it is"
    return InputError(f"no label of split {split!r}; {there}")


def check_one_split(labels: LabelTable | None, what: str = "labels", option: str = SPLIT) -> None:
    """Refuse labels of several splits where one is required; `option` is how to choose it."""
    splits = labels.splits if labels is not None else {}
    if len(splits) > 1:
        raise InputError(
            f"{what}: labels of {len(splits)} splits, {_listed(splits)}; choose one with "
            f"{option}={next(iter(splits))!r}"
        )


def _listed(splits: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in splits.items())
