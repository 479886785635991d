"""ObservationTable: model observations of images as an Arrow table, one row per image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import accumulate, islice, pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clipvg.errors import InputError, one_line
from clipvg.pseudo.observation import (
    Candidate,
    Detection,
    Observation,
    Relation,
    by_source,
    observation_to_dict,
)
from clipvg.runtime.files import atomic_path

BOX = pa.list_(pa.float64(), 4)
ATTRIBUTE = pa.struct([("word", pa.string()), ("probability", pa.float64())])
DETECTION = pa.struct(
    [
        ("class", pa.string()),
        ("box", BOX),
        ("score", pa.float64()),
        ("attributes", pa.list_(ATTRIBUTE)),
    ]
)
RELATION = pa.struct(
    [
        ("subject", pa.string()),
        ("predicate", pa.string()),
        ("object", pa.string()),
        ("subject_box", BOX),
        ("object_box", BOX),
        ("scores", pa.list_(pa.float64(), 3)),
    ]
)
CANDIDATE = pa.struct(
    [
        ("source", pa.string()),
        ("expression", pa.string()),
        ("box", BOX),
        ("rule", pa.string()),
        ("detection", pa.int32()),
    ]
)
SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("detections", pa.list_(DETECTION)),
        ("attribute_detections", pa.list_(DETECTION)),
        ("captions", pa.list_(pa.string())),
        ("relations", pa.list_(RELATION)),
        ("candidates", pa.list_(CANDIDATE)),
        ("extra", pa.string()),  # JSON
    ]
)


def encode(part: list[Observation]) -> pa.RecordBatch:
    """Convert observations to rows of the table."""
    rows = [
        (
            each.image,
            each.width,
            each.height,
            list(map(_detection, each.detections)),
            list(map(_detection, each.attribute_detections)),
            each.captions,
            list(map(_relation, each.relations)),
            [
                (source, one.expression, one.box, one.rule, one.detection)
                for source, made in each.candidates.items()
                for one in made
            ],
            json.dumps(dict(each.extra)) if each.extra else None,
        )
        for each in part
    ]
    columns = zip(SCHEMA, zip(*rows, strict=True), strict=True)
    arrays = [pa.array(column, field.type) for field, column in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def decode(batch: pa.RecordBatch) -> Iterator[Observation]:
    """Yield the observations in rows of the table."""
    for image, width, height, found, described, captions, edges, made, extra in zip(
        *map(_values, batch.columns), strict=True
    ):
        yield Observation(
            image,
            width,
            height,
            tuple(Detection(name, box, p, dict(words)) for name, box, p, words in found),
            tuple(Detection(name, box, p, dict(words)) for name, box, p, words in described),
            captions,
            tuple(Relation(*edge) for edge in edges),
            by_source((source, Candidate(*candidate)) for source, *candidate in made),
            json.loads(extra) if extra else {},
        )


def _detection(found: Detection) -> tuple:
    return found.name, found.box, found.score, list(found.attributes.items())


def _relation(edge: Relation) -> tuple:
    boxes = edge.subject_box, edge.object_box
    return edge.subject, edge.predicate, edge.object, *boxes, edge.scores


def _values(array: pa.Array) -> list:
    """Return the rows of an Arrow array, structs and lists as tuples."""
    if pa.types.is_struct(array.type):
        return list(zip(*map(_values, array.flatten()), strict=True))
    if pa.types.is_fixed_size_list(array.type):
        numbers = iter(_values(array.flatten()))
        return list(zip(*[numbers] * array.type.list_size, strict=True))
    if pa.types.is_list(array.type):
        flat = _values(array.flatten())
        lengths = array.value_lengths().fill_null(0).to_pylist()
        return [tuple(flat[i:j]) for i, j in pairwise([0, *accumulate(lengths)])]
    return array.to_pylist()


_BATCH = 1000


class ObservationTable:
    """Immutable table of observations, one row per image.

    Args:
        table: Arrow table with the columns of `SCHEMA`; absent columns are empty.
        images: folder that image names are relative to.
        dropped: what was left out in reading, one line each.

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
        self._refuse_nulls()
        self.images = None if images is None else Path(images)
        self.dropped = dropped

    @classmethod
    def from_observations(
        cls,
        observations: Iterable[Observation],
        images: str | Path | None = None,
        dropped: tuple[str, ...] = (),
    ) -> ObservationTable:
        """Build a table from observations."""
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
        """Return `count` rows from `start` on."""
        return ObservationTable(self._table.slice(start, count), self.images)

    def kinds(self) -> set[str]:
        """Return the list columns with an entry for any image."""
        lists = [field.name for field in SCHEMA if pa.types.is_list(field.type)]
        return {name for name in lists if any(map(len, self.entries(name)))}

    def entries(self, name: str) -> list[pa.Array]:
        """Return the entries of a list column, flattened over all images, chunk by chunk."""
        return [chunk.flatten() for chunk in self._table.column(name).chunks]

    def given_sources(self) -> frozenset[str]:
        """Return the sources whose candidates are part of the observations."""
        names: set[str] = set()
        for part in self.entries("candidates"):
            names |= set(part.field("source").unique().to_pylist())
        return frozenset(names)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of all observations."""
        digest = hashlib.sha256()
        for batch in self._table.combine_chunks().to_batches(max_chunksize=_BATCH):
            digest.update(batch.serialize())
        return digest.hexdigest()

    def write(self, path: str | Path) -> None:
        """Write as .jsonl or .parquet, by suffix; raise InputError for any other."""
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

    def _refuse_nulls(self) -> None:
        for name in SCHEMA.names:
            parts = self.entries(name) if pa.types.is_list(SCHEMA.field(name).type) else []
            for part in parts:
                fields = part.flatten() if pa.types.is_struct(part.type) else []
                needed = fields[:4] if name == "candidates" else fields  # detection may be null
                if part.null_count or any(field.null_count for field in needed):
                    raise InputError(f"column {name!r} has entries without a value; leave them out")
        if self._table.column("image").null_count:
            raise InputError("column 'image' has rows without a name; leave them out")


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
        return pa.table(columns, names=SCHEMA.names).cast(SCHEMA)
    except pa.ArrowException as error:
        raise InputError(
            f"observations of another kind: {one_line(error, 150)}; write the "
            "table with ObservationTable.write"
        ) from None
