"""Labels in CSV and TSV: a header, and a line a label."""

from __future__ import annotations

import csv
import json
from functools import partial
from itertools import chain

import pyarrow as pa

from clipvg.errors import InputError
from clipvg.labels.formats.file import File, Format
from clipvg.labels.formats.objects import at_line
from clipvg.labels.schema import CORNERS, SIDES, check_columns

_LONGEST_CELL = 10_000_000
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_OTHERS = ",;\t|"


def read(file: File) -> pa.Table:
    """Return the table of a file with a header; every cell as text, an empty one null.

    Columns that the schema does not know stay text, so that "007" comes back as written. Where the
    header is not separated as the ending says, its own delimiter is taken; with semicolons, sides
    of boxes may have decimal commas.
    """
    csv.field_size_limit(_LONGEST_CELL)
    columns: dict[str, list[str | None]] = {}
    with file.open(newline="") as lines:
        header = lines.readline()
        if header.lstrip().startswith(("{", "[")):
            raise InputError(f"{file}: begins as JSON does; call it .json, or .jsonl")
        delimiter = _delimiter(header, _DELIMITERS[file.ending])
        named = () if _is_excel(header) else (header,)
        reader = csv.reader(chain(named, lines), delimiter=delimiter, strict=True)
        try:
            for name in map(str.strip, next(reader, [])):
                if name in columns:
                    raise InputError(
                        f"{file}: column {name!r} appears twice in the header; rename one"
                    )
                columns[name] = []
                check_columns(len(columns), str(file))
            for row, cells in enumerate(filter(None, reader)):
                if len(cells) != len(columns):
                    where = at_line(row, reader.line_num)
                    raise InputError(
                        f"{file} {where}: {len(cells)} cells, but the header has {len(columns)}; "
                        f"quote cells that hold the delimiter {delimiter!r}"
                    )
                for column, cell in zip(columns.values(), cells, strict=True):
                    column.append(cell or None)
        except csv.Error as error:
            raise InputError(f"{file} line {reader.line_num}: {error}; check the quotes") from None
    if delimiter == ";":
        for name in columns.keys() & {*CORNERS, *SIDES}:
            columns[name] = [cell and cell.replace(",", ".") for cell in columns[name]]
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _write(table: pa.Table, file: File, delimiter: str) -> None:
    """Write a header and a line a label; lists and objects as JSON."""
    with file.create(newline="") as out:
        writer = csv.writer(out, delimiter=delimiter)
        writer.writerow(table.column_names)
        for batch in table.to_batches(max_chunksize=10_000):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                writer.writerow([_cell(value) for value in row])


def _is_excel(line: str) -> bool:
    """Whether a first line says what separates cells, as Excel has it."""
    return line.lower().startswith("sep=") and len(line.rstrip("\r\n")) == 5


def _delimiter(header: str, usual: str) -> str:
    """What separates the cells of a header: as the ending says, else what makes most of them."""
    if _is_excel(header):
        return header[4]
    counts = {each: len(next(csv.reader([header], delimiter=each), [])) for each in _OTHERS}
    return usual if counts[usual] > 1 else max(counts, key=counts.__getitem__)


def _cell(value: object) -> object:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if value is None else value


CSV = Format("csv", (".csv",), read, write=partial(_write, delimiter=","))
TSV = Format("tsv", (".tsv",), read, write=partial(_write, delimiter="\t"))
