"""Labels in JSON Lines: an object a label."""

from __future__ import annotations

import json

import pyarrow as pa

from clipvg.labels.formats.file import LINES, File, Format, rows_of, rows_table


def read(file: File) -> pa.Table:
    """Return the table of a file with an object a line; keys that a line lacks are null."""
    return rows_table(file.objects(), file)


def write(table: pa.Table, file: File) -> None:
    """Write one object a line, without nulls."""
    with file.create() as out:
        for row in rows_of(table):
            out.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


JSONL = Format("jsonl", LINES, read, write=write)
