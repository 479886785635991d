"""ObservationTable: what models say of images, as one Arrow table with one row an image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clipvg.errors import InputError, one_line
from clipvg.pseudo.arrow import SCHEMA, decode, encode
from clipvg.pseudo.native import observation_to_dict
from clipvg.pseudo.observation import Observation
from clipvg.runtime.files import atomic_path

_BATCH = 1000


class ObservationTable:
    """Observations: one row is one image. Immutable.

    Args:
        table: Arrow table with the columns of `SCHEMA`; those that are absent are empty.
        images: folder that image names are relative to.
        dropped: what reading left out, one line each.

    Raises:
        InputError: no column ``image``, or values of another kind.

    Example:
        >>> from clipvg.pseudo import Detection
        >>> dog = Detection("dog", (10, 20, 110, 220), 0.9)
        >>> seen = ObservationTable.from_observations([Observation("a.jpg", 640, 480, (dog,))])
        >>> len(seen), next(iter(seen)).detections[0].name
        (1, 'dog')
    """

    def __init__(
        self, table: pa.Table, images: str | Path | None = None, dropped: tuple[str, ...] = ()
    ) -> None:
        self._table = _conform(table)
        self.images = None if images is None else Path(images)
        self.dropped = dropped

    @classmethod
    def from_observations(
        cls,
        observations: Iterable[Observation],
        images: str | Path | None = None,
        dropped: tuple[str, ...] = (),
    ) -> ObservationTable:
        """Return the table of some observations."""
        rest = iter(observations)
        batches = []
        while part := list(islice(rest, _BATCH)):
            batches.append(encode(part))
        return cls(pa.Table.from_batches(batches, SCHEMA), images, dropped)

    @property
    def table(self) -> pa.Table:
        """The Arrow table."""
        return self._table

    def __len__(self) -> int:
        return self._table.num_rows

    def __repr__(self) -> str:
        return f"ObservationTable({len(self)} images: {', '.join(sorted(self.kinds()))})"

    def __iter__(self) -> Iterator[Observation]:
        for batch in self._table.to_batches(max_chunksize=_BATCH):
            yield from decode(batch)

    def slice(self, start: int, count: int) -> ObservationTable:
        """Return some rows."""
        return ObservationTable(self._table.slice(start, count), self.images)

    def kinds(self) -> set[str]:
        """Return the columns that say something of any image."""
        lists = [field.name for field in SCHEMA if pa.types.is_list(field.type)]
        return {name for name in lists if any(map(len, _flat(self._table.column(name))))}

    def given_sources(self) -> frozenset[str]:
        """Return the sources whose candidates the observations bring along."""
        names: set[str] = set()
        for part in _flat(self._table.column("candidates")):
            names |= set(part.field("source").unique().to_pylist())
        return frozenset(names)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of all that is observed."""
        digest = hashlib.sha256()
        for batch in self._table.combine_chunks().to_batches(max_chunksize=_BATCH):
            digest.update(batch.serialize())
        return digest.hexdigest()

    def write(self, path: str | Path) -> None:
        """Write as .jsonl or .parquet, by suffix; raise InputError at another one."""
        path = Path(path)
        if path.suffix.lower() not in (".jsonl", ".parquet"):
            raise InputError(f"{path}: observations are written as .jsonl or .parquet")
        with atomic_path(path) as temporary:
            if path.suffix.lower() == ".parquet":
                pq.write_table(self._table, temporary, compression="zstd")
                return
            with temporary.open("w", encoding="utf-8") as file:
                for observation in self:
                    line = json.dumps(observation_to_dict(observation), ensure_ascii=False)
                    file.write(line + "\n")


def _conform(table: pa.Table) -> pa.Table:
    if table.schema.equals(SCHEMA):
        return table
    if "image" not in table.column_names:
        raise InputError("observations need a column 'image'; is it a file of labels?")
    columns = [
        table.column(field.name)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in SCHEMA
    ]
    try:
        conformed = pa.table(columns, names=SCHEMA.names).cast(SCHEMA)
        _refuse_nulls(conformed)
        return conformed
    except pa.ArrowException as error:
        raise InputError(
            f"observations of another kind: {one_line(error, 150)}; write the "
            "table with ObservationTable.write"
        ) from None


def _refuse_nulls(table: pa.Table) -> None:
    for name in SCHEMA.names:
        parts = _flat(table.column(name)) if pa.types.is_list(SCHEMA.field(name).type) else []
        for part in parts:
            fields = part.flatten() if pa.types.is_struct(part.type) else []
            needed = fields[:4] if name == "candidates" else fields  # detection may be null
            if part.null_count or any(field.null_count for field in needed):
                raise InputError(f"column {name!r} has entries without a value; leave them out")
    if table.column("image").null_count:
        raise InputError("column 'image' has rows without a name; leave them out")


def _flat(column: pa.ChunkedArray) -> list[pa.Array]:
    return [chunk.flatten() for chunk in column.chunks]
