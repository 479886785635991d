"""Label tables to files, whole or not at all."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from clipvg.labels.formats import find_format
from clipvg.labels.formats.file import File

if TYPE_CHECKING:
    from clipvg.labels.table import LabelTable


def write_labels(
    labels: LabelTable, path: str | Path, *, layout: str | None = None, format: str | None = None
) -> None:
    """Write labels by the ending of the file, or in the format of a name.

    Every format but ``.pth`` holds all columns; what a layout of ``.pth`` has no place for is left
    out with a warning. Text is packed with gzip where the name ends in ``.gz``.

    Args:
        labels: the labels.
        path: the file to write.
        layout: layout of a .pth file; None takes the prefix of its name.
        format: parquet, jsonl, csv, tsv, json, pth, coco, odvg or label-studio; None goes by the
            ending.

    Raises:
        InputError: no such format or ending, or no layout.
    """
    path = Path(path)
    found = find_format(path, format)
    assert found.write is not None
    file = File(path, layout, labels.images)
    table = labels.table
    lost = [name for name in found.lost(table, file) if table[name].null_count < len(table)]
    if lost:
        warnings.warn(f"{path}: no place for {', '.join(lost)} in {found.name} files; left out",
                      stacklevel=3)  # fmt: skip
    found.write(table, file)
