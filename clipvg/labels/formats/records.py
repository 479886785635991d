"""Labels in JSON: a list with an object a label."""

from __future__ import annotations

import pyarrow as pa

from clipvg.labels.formats.file import File, Format, records_table


def matches(file: File) -> bool:
    """Whether a file holds a list of objects."""
    content = file.json
    return isinstance(content, list) and all(isinstance(record, dict) for record in content)


def read(file: File) -> pa.Table:
    """Objects with image, expression and box; keys that one lacks are null."""
    return records_table(file.json, file)


RECORDS = Format("json", (".json",), read, matches)
