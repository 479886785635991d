"""Split the rows of Parquet files into parts, with names that sort in the order of the rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import dataset, fs

from clipvg.errors import InputError, one_line
from clipvg.runtime.files import atomic_path

LABELS_PER_FILE = 262_144  # at most


@dataclass(frozen=True)
class Part:
    """Rows of one file that are scored by one actor and become one file of the result."""

    source: str  # the file, a path or URI
    start: int  # first row
    count: int  # number of rows
    name: str  # of the result file; names sort in the order of the rows

    def read(self, rows: int) -> Iterator[pa.Table]:
        """Yield the part's rows in tables of at most `rows` rows."""
        system, path = find_files(self.source)
        with system.open_input_file(path) as opened, pq.ParquetFile(opened) as file:
            at, end = 0, self.start + self.count
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                if at + size <= self.start or at >= end:
                    at += size
                    continue
                for batch in file.iter_batches(rows, row_groups=[group]):
                    low, high = max(self.start - at, 0), min(end - at, len(batch))
                    if low < high:
                        yield pa.Table.from_batches([batch.slice(low, high - low)])
                    at += len(batch)
                    if at >= end:
                        return


def plan_parts(sources: Iterable[str], actors: int, least: int) -> list[Part]:
    """Divide the rows of Parquet files into parts; files of a folder are sorted by name.

    Each actor gets several parts if there are enough rows; all but the last part of a file have
    `least` rows or more.
    """
    files = [file for source in sources for file in _files(source)]
    share = math.ceil(sum(count for _, count in files) / (4 * actors))
    size = max(least, min(LABELS_PER_FILE, share))
    return [
        Part(source, start, min(size, count - start), f"part-{number:06}-{start:012}.parquet")
        for number, (source, count) in enumerate(files)
        for start in range(0, count, size)
    ]


def find_files(place: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a path or URI, and the path in it."""
    found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(
        place if "://" in place else str(Path(place).absolute())
    )
    return found


@contextmanager
def open_output(folder: str, name: str) -> Iterator[pa.NativeFile]:
    """Open a file below a folder or URI to write; it appears complete or not at all."""
    if "://" in folder:
        system, path = find_files(folder)
        stream = system.open_output_stream(f"{path}/{name}")
        try:
            with stream as file:
                yield file
        except BaseException:  # closing the stream has stored what there was of the file
            with suppress(OSError):
                system.delete_file(f"{path}/{name}")
            raise
        return
    with atomic_path(Path(folder) / name) as temporary, pa.OSFile(str(temporary), "wb") as file:
        yield file


def _files(source: str) -> list[tuple[str, int]]:
    """Return the files of a source, by name, with their numbers of rows."""
    system, path = find_files(source)
    scheme = source.partition("://")[0] + "://" if "://" in source else ""
    try:
        found = dataset.dataset(path, filesystem=system, format="parquet")
        return [
            (scheme + fragment.path, fragment.count_rows())
            for fragment in sorted(found.get_fragments(), key=lambda fragment: fragment.path)
        ]
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source} cannot be read as Parquet: {one_line(error, 200)}") from error
