"""Labels in JSON: a list with an object a label."""

from __future__ import annotations

import json

import pyarrow as pa

from clipvg.labels.formats.file import File, Format, rows_of, rows_table


def matches(file: File) -> bool:
    """Whether a file holds a list of objects, or a single label."""
    return file.content is None or isinstance(file.first.get("expression"), str)


def read(file: File) -> pa.Table:
    """Return the table of objects with image, expression and box; keys that one lacks are null."""
    return rows_table(file.objects(), file)


def write(table: pa.Table, file: File) -> None:
    """Write a list with one object a line, without nulls."""
    with file.create() as out:
        separator = "[\n"
        for row in rows_of(table):
            out.write(separator + json.dumps(row, ensure_ascii=False, default=str))
            separator = ",\n"
        out.write("\n]\n" if len(table) else "[]\n")


RECORDS = Format("json", (".json",), read, matches, write)
