"""Files whose columns are those of a label table: Parquet, JSON Lines, JSON, CSV and TSV."""

from __future__ import annotations

import csv
import json
from functools import partial
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq

from clipvg.errors import InputError, one_line
from clipvg.labels.formats.file import LINES, File, Format, rows_of, rows_table
from clipvg.labels.formats.objects import at_line
from clipvg.labels.schema import CORNERS, SIDES, check_columns
from clipvg.runtime.files import atomic_path
from clipvg.runtime.parquet import read_parquet

_LONGEST_CELL = 10_000_000
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_OTHERS = ",;\t|"


def _read_parquet(file: File) -> pa.Table:
    try:
        return read_parquet(file.path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file}: damaged, or not a Parquet file ({one_line(error, 160)})"
        ) from None


def _write_parquet(table: pa.Table, file: File) -> None:
    with atomic_path(file.path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _is_records(file: File) -> bool:
    """Return whether a file holds a list of objects, or a single label."""
    return file.content is None or isinstance(file.first.get("expression"), str)


def _read_objects(file: File) -> pa.Table:
    """Return the table of a file with one object per label; keys that one lacks are null."""
    return rows_table(file.objects(), file)


def _write_lines(table: pa.Table, file: File) -> None:
    """Write one object per line, without nulls."""
    with file.create() as out:
        for row in rows_of(table):
            out.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def _write_list(table: pa.Table, file: File) -> None:
    """Write a list with one object per line, without nulls."""
    with file.create() as out:
        separator = "[\n"
        for row in rows_of(table):
            out.write(separator + json.dumps(row, ensure_ascii=False, default=str))
            separator = ",\n"
        out.write("\n]\n" if len(table) else "[]\n")


def _read_delimited(file: File) -> pa.Table:
    """Return the table of a file with a header; cells stay text, as "007", and null if empty.

    If the header does not use the delimiter of the file's ending, the one it uses is detected; with
    semicolons, sides of boxes may have decimal commas.
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
    if delimiter == ";":  # decimals may have commas
        for name in columns.keys() & {*CORNERS, *SIDES}:
            columns[name] = [cell and cell.replace(",", ".") for cell in columns[name]]
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _write_delimited(table: pa.Table, file: File, delimiter: str) -> None:
    """Write a header and one line per label, with lists and objects as JSON."""
    with file.create(newline="") as out:
        writer = csv.writer(out, delimiter=delimiter)
        writer.writerow(table.column_names)
        for batch in table.to_batches(max_chunksize=10_000):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                writer.writerow([_cell(value) for value in row])


def _is_excel(line: str) -> bool:
    """Return whether the first line declares the delimiter as Excel does, such as "sep=;"."""
    return line.lower().startswith("sep=") and len(line.rstrip("\r\n")) == 5


def _delimiter(header: str, usual: str) -> str:
    """Return the delimiter of a header: that of the ending, else the one that gives most cells."""
    if _is_excel(header):
        return header[4]
    counts = {each: len(next(csv.reader([header], delimiter=each), [])) for each in _OTHERS}
    return usual if counts[usual] > 1 else max(counts, key=counts.__getitem__)


def _cell(value: object) -> object:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if value is None else value


PARQUET = Format("parquet", (".parquet",), _read_parquet, write=_write_parquet, is_text=False)
JSONL = Format("jsonl", LINES, _read_objects, write=_write_lines)
RECORDS = Format("json", (".json",), _read_objects, _is_records, _write_list)
CSV = Format("csv", (".csv",), _read_delimited, write=partial(_write_delimited, delimiter=","))
TSV = Format("tsv", (".tsv",), _read_delimited, write=partial(_write_delimited, delimiter="\t"))
