"""Observations as Arrow: the schema of their table, and both ways of the conversion."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, pairwise
from typing import TypeVar

import pyarrow as pa

from clipvg.pseudo.observation import Candidate, Detection, Observation, Relation

T = TypeVar("T")
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


# Python to Arrow


def encode(part: list[Observation]) -> pa.RecordBatch:
    """Return some observations as rows of the table."""
    columns = [
        pa.array([one.image for one in part], pa.string()),
        pa.array([one.width for one in part], pa.int32()),
        pa.array([one.height for one in part], pa.int32()),
        _lists([one.detections for one in part], _encode_detections),
        _lists([one.attribute_detections for one in part], _encode_detections),
        pa.array([list(one.captions) for one in part], pa.list_(pa.string())),
        _lists([one.relations for one in part], _encode_relations),
        _lists([_with_sources(one) for one in part], _encode_candidates),
        pa.array([json.dumps(dict(one.extra)) if one.extra else None for one in part], pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _lists(rows: list[tuple[T, ...]], encode: Callable[[list[T]], pa.Array]) -> pa.Array:
    offsets = [0, *accumulate(map(len, rows))]
    flat = encode([value for row in rows for value in row])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)


def _numbers(rows: Iterable[Iterable[float]], size: int) -> pa.Array:
    flat = pa.array([value for row in rows for value in row], pa.float64())
    return pa.FixedSizeListArray.from_arrays(flat, size)


def _struct(kind: pa.StructType, columns: list[pa.Array]) -> pa.Array:
    return pa.StructArray.from_arrays(columns, fields=[kind.field(i) for i in range(len(columns))])


def _encode_detections(found: list[Detection]) -> pa.Array:
    attributes = _lists([tuple(one.attributes.items()) for one in found], _encode_attributes)
    return _struct(
        DETECTION,
        [
            pa.array([one.name for one in found], pa.string()),
            _numbers([one.box for one in found], 4),
            pa.array([one.score for one in found], pa.float64()),
            attributes,
        ],
    )


def _encode_attributes(pairs: list[tuple[str, float]]) -> pa.Array:
    words = pa.array([word for word, _ in pairs], pa.string())
    return _struct(ATTRIBUTE, [words, pa.array([p for _, p in pairs], pa.float64())])


def _encode_relations(edges: list[Relation]) -> pa.Array:
    return _struct(
        RELATION,
        [
            pa.array([one.subject for one in edges], pa.string()),
            pa.array([one.predicate for one in edges], pa.string()),
            pa.array([one.object for one in edges], pa.string()),
            _numbers([one.subject_box for one in edges], 4),
            _numbers([one.object_box for one in edges], 4),
            _numbers([one.scores for one in edges], 3),
        ],
    )


def _with_sources(observation: Observation) -> tuple[tuple[str, Candidate], ...]:
    return tuple((name, one) for name, made in observation.candidates.items() for one in made)


def _encode_candidates(made: list[tuple[str, Candidate]]) -> pa.Array:
    return _struct(
        CANDIDATE,
        [
            pa.array([name for name, _ in made], pa.string()),
            pa.array([one.expression for _, one in made], pa.string()),
            _numbers([one.box for _, one in made], 4),
            pa.array([one.rule for _, one in made], pa.string()),
            pa.array([one.detection for _, one in made], pa.int32()),
        ],
    )


# Arrow to Python


def decode(batch: pa.RecordBatch) -> Iterator[Observation]:
    """Yield the observations of some rows."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    candidates = _cut(columns["candidates"], _decode_candidates)
    rows = zip(
        columns["image"].to_pylist(),
        columns["width"].to_pylist(),
        columns["height"].to_pylist(),
        _cut(columns["detections"], _decode_detections),
        _cut(columns["attribute_detections"], _decode_detections),
        _cut(columns["captions"], pa.Array.to_pylist),
        _cut(columns["relations"], _decode_relations),
        map(_by_source, candidates),
        (json.loads(text) if text else {} for text in columns["extra"].to_pylist()),
        strict=True,
    )
    for row in rows:
        yield Observation(*row)


def _cut(lists: pa.ListArray, decode: Callable[[pa.Array], list[T]]) -> list[tuple[T, ...]]:
    values = decode(lists.flatten())
    lengths = lists.value_lengths().fill_null(0).to_pylist()
    bounds = [0, *accumulate(lengths)]
    return [tuple(values[start:end]) for start, end in pairwise(bounds)]


def _boxes(column: pa.Array) -> list:
    flat = iter(column.flatten().to_pylist())
    return list(zip(*[flat] * column.type.list_size, strict=True))


def _decode_detections(found: pa.StructArray) -> list[Detection]:
    names, boxes, scores, attributes = found.flatten()
    pairs = _cut(attributes, _decode_attributes)
    return [
        Detection(name, box, score, dict(words))
        for name, box, score, words in zip(
            names.to_pylist(), _boxes(boxes), scores.to_pylist(), pairs, strict=True
        )
    ]


def _decode_attributes(pairs: pa.StructArray) -> list[tuple[str, float]]:
    words, probabilities = pairs.flatten()
    return list(zip(words.to_pylist(), probabilities.to_pylist(), strict=True))


def _decode_relations(edges: pa.StructArray) -> list[Relation]:
    subjects, predicates, objects, boxes, others, scores = edges.flatten()
    words = (column.to_pylist() for column in (subjects, predicates, objects))
    numbers = (_boxes(column) for column in (boxes, others, scores))
    return [Relation(*row) for row in zip(*words, *numbers, strict=True)]


def _decode_candidates(made: pa.StructArray) -> list[tuple[str, Candidate]]:
    sources, expressions, boxes, rules, detections = made.flatten()
    return [
        (source, Candidate(*row))
        for source, *row in zip(
            sources.to_pylist(),
            expressions.to_pylist(),
            _boxes(boxes),
            rules.to_pylist(),
            detections.to_pylist(),
            strict=True,
        )
    ]


def _by_source(made: tuple[tuple[str, Candidate], ...]) -> dict[str, tuple[Candidate, ...]]:
    sources: dict[str, tuple[Candidate, ...]] = {}
    for name, candidate in made:
        sources[name] = (*sources.get(name, ()), candidate)
    return sources
