"""Source names of labels as codes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from clipvg.labels import LabelTable
from clipvg.reliability.sources import SourceNames, source_names, unknown_sources

NAMES = ["b", "a", "", "b", "c"]
CHUNKS = pa.chunked_array([["b", "a", None], ["b", "c"]])


@pytest.mark.parametrize(
    "values",
    [
        NAMES,
        tuple(NAMES),
        pa.array(["b", "a", None, "b", "c"]),
        CHUNKS,
        CHUNKS.dictionary_encode(),
        pa.chunked_array([chunk.dictionary_encode() for chunk in CHUNKS.chunks]),
        pa.array(NAMES).dictionary_encode(),
        pa.DictionaryArray.from_arrays([1, 2, None, 3, 0], ["c", "b", "a", "b"]),
    ],
)
def test_names_come_in_order_of_appearance(values: object) -> None:
    sources = SourceNames.of(values)  # type: ignore[arg-type]
    assert sources.names == ("b", "a", "", "c")
    assert sources.codes.tolist() == [0, 1, 2, 0, 3]
    assert list(sources) == NAMES
    assert sources.to_arrow().to_pylist() == NAMES
    assert SourceNames.of(sources) is sources


def test_some_rows() -> None:
    sources = SourceNames.of(NAMES)
    assert sources[1] == "a"
    assert sources[-1] == "c"
    assert sources[1:3].names == ("a", "")
    assert list(sources.take(np.array([4, 0]))) == ["c", "b"]
    assert list(sources.take(np.array([True, False, False, True, False]))) == ["b", "b"]


def test_of_labels() -> None:
    labels = LabelTable.from_columns(image=list("xyz"), expression=list("xyz"), box=np.ones((3, 4)))
    assert list(source_names(labels)) == [""] * 3
    assert list(source_names(labels.with_column("source", ["s", None, "t"]))) == ["s", "", "t"]


def test_none() -> None:
    for sources in (SourceNames.of([]), unknown_sources(0), SourceNames.of(CHUNKS.slice(0, 0))):
        assert len(sources) == 0
        assert sources.names == ()
