"""Labels in Parquet: the columns of a label table, with their types."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from clipvg.errors import InputError, one_line
from clipvg.labels.formats.file import File, Format
from clipvg.runtime.files import atomic_path
from clipvg.runtime.parquet import read_parquet


def read(file: File) -> pa.Table:
    """Return the table of a Parquet file."""
    try:
        return read_parquet(file.check())
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file}: damaged, or not a Parquet file ({one_line(error, 160)})"
        ) from None


def write(table: pa.Table, file: File) -> None:
    """Write a table with all its types."""
    with atomic_path(file.path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


PARQUET = Format("parquet", (".parquet",), read, write=write, is_text=False)
