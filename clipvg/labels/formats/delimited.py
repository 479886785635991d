"""Labels in CSV and TSV: a header, and a line a label."""

from __future__ import annotations

import csv
import json

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.file import File, Format
from clipvg.labels.schema import check_columns
from clipvg.runtime.files import atomic_path

_LONGEST_CELL = 10_000_000
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read(file: File) -> pa.Table:
    """A file with a header; every cell as text, an empty one null.

    Columns that the schema does not know stay text, so that "007" comes back as written.
    """
    csv.field_size_limit(_LONGEST_CELL)
    columns: dict[str, list[str | None]] = {}
    with file.check().open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=_DELIMITERS[file.ending], strict=True)
        try:
            for name in map(str.strip, next(reader, [])):
                if name in columns:
                    raise InputError(
                        f"{file}: column {name!r} appears twice in the header; rename one"
                    )
                columns[name] = []
                check_columns(len(columns), str(file))
            for cells in filter(None, reader):
                if len(cells) != len(columns):
                    raise InputError(
                        f"{file} line {reader.line_num}: {len(cells)} cells, but the header has "
                        f"{len(columns)}; quote cells that hold the delimiter"
                    )
                for column, cell in zip(columns.values(), cells, strict=True):
                    column.append(cell or None)
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: not UTF-8 ({error.reason} at byte {error.start})") from None
        except csv.Error as error:
            raise InputError(f"{file} line {reader.line_num}: {error}; check the quotes") from None
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def write(table: pa.Table, file: File) -> None:
    """Write a header and a line a label; lists and objects as JSON."""
    with atomic_path(file.path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(table.column_names)
            for batch in table.to_batches(max_chunksize=10_000):
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    writer.writerow([_cell(value) for value in row])


def _cell(value: object) -> object:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if value is None else value


CSV = Format("csv", (".csv",), read, write=write)
TSV = Format("tsv", (".tsv",), read)
