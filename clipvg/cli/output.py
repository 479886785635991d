"""How results look in a terminal, and where files of results may go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from clipvg.errors import InputError, printable
from clipvg.runtime.gate import check_local


def pairs(values: Mapping[str, object]) -> str:
    """Return aligned lines "name  value"; nothing for no values."""
    width = max(map(len, values), default=0)
    return "\n".join(f"{name:{width}}  {printable(str(value))}" for name, value in values.items())


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1) -> str:
    """Return aligned columns: the first `left` of them to the left, the others to the right."""
    cells = [[printable(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def check_writable(path: Path, endings: Sequence[str] = (), *, reads: Iterable[str] = ()) -> Path:
    """Return the path of a file to write, refused before the work whose result goes there.

    It has one of the endings, "" for none; any when these are empty. Files that the command reads
    are not written over.

    Raises:
        InputError: it has another ending, it is a folder or a file that is read, or its folder
            cannot be made or written to.
    """
    check_local(path)
    for read in reads:
        if path.exists() and os.path.exists(read) and path.samefile(read):
            raise InputError(f"{path} would be written over {read}, which is read; choose another")
    if endings and path.suffix.lower() not in endings:
        raise InputError(
            f"--out {path}: written as {', '.join(filter(None, endings))}; change the ending"
        )
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    there = next(parent for parent in path.absolute().parents if parent.exists())
    if not there.is_dir():
        raise InputError(f"{path}: {there} is a file, not a folder; choose another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{path}: the folder {there} is not writable; choose another place")
    return path
