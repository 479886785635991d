"""Observations as Arrow: the schema of their table, and both ways of the conversion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import accumulate, pairwise

import pyarrow as pa

from clipvg.pseudo.observation import Candidate, Detection, Observation, Relation, by_source

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
    """Return some observations as rows of the table."""
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
    """Yield the observations of some rows."""
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
    """The rows of an Arrow array; structs and lists are tuples."""
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
