"""Label tables to files, whole or not at all."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from clipvg.errors import InputError, one_line
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
        InputError: no such format or ending, no layout, or a value that the format cannot hold.
    """
    path = Path(path)
    found = find_format(path, format)
    assert found.write is not None
    file = File(path, layout, labels.images)
    table = labels.table
    try:
        lost = [name for name in found.lost(table, file) if table[name].null_count < len(table)]
        found.write(table, file)
    except (InputError, OSError, ImportError):
        raise
    except Exception as error:  # columns of others hold anything; CLIPVG_DEBUG=1 shows it
        why = one_line(error, 120)
        raise InputError(
            f"{path}: a value cannot be written in {found.name} files ({why}); leave its column out"
        ) from error
    if lost:
        warnings.warn(f"{path}: no place for {', '.join(lost)} in {found.name} files; left out",
                      stacklevel=3)  # fmt: skip
