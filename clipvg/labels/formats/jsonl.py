"""Labels in JSON Lines: an object a label."""

from __future__ import annotations

import json

import pyarrow as pa

from clipvg.errors import InputError, one_line
from clipvg.labels.formats.file import File, Format, records_table
from clipvg.runtime.files import Json, atomic_path


def read(file: File) -> pa.Table:
    """A file with one JSON object a line; keys that a line lacks are null."""
    with file.check().open("rb") as lines:
        rows = [
            _object(line, f"{file} line {i}") for i, line in enumerate(lines, 1) if line.strip()
        ]
    return records_table(rows, file)


def write(table: pa.Table, file: File) -> None:
    """Write one object a line, without nulls."""
    with atomic_path(file.path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for batch in table.to_batches(max_chunksize=10_000):
            for row in batch.to_pylist():
                there = {name: value for name, value in row.items() if value is not None}
                out.write(json.dumps(there, ensure_ascii=False, default=str) + "\n")


def _object(line: bytes, where: str) -> Json:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # ValueError: an integer of 5,000 digits, too
        raise InputError(f"{where}: not JSON ({one_line(error, 120)})") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: a {type(value).__name__}, expected an object with image, "
                         "expression and box")  # fmt: skip
    return value


JSONL = Format("jsonl", (".jsonl",), read, write=write)
