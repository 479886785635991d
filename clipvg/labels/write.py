"""Label tables to files, whole or not at all."""

from __future__ import annotations

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

    Parquet keeps types; JSON Lines leaves out nulls; CSV writes lists as JSON; ``.pth`` is the
    published format and keeps only what it has a place for.

    Args:
        labels: the labels.
        path: the file to write.
        layout: layout of a .pth file; None takes the prefix of its name.
        format: name of a format in `clipvg.labels.formats`; None goes by the ending.

    Raises:
        InputError: no such format or ending, or no layout.
    """
    path = Path(path)
    found = find_format(path, format)
    assert found.write is not None
    found.write(labels.table, File(path, layout))
