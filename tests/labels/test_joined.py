"""Join the columns of several files: CSV has no types, other formats do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from clipvg.errors import InputError
from clipvg.labels import LabelTable, merge_labels, read_labels
from clipvg.labels.joined import join_tables

TEXT = pa.array(["1", None, "2"])


@pytest.mark.parametrize(
    ("text", "typed", "expected"),
    [
        (["1", None, "2"], pa.array([7, 8]), [1, None, 2, 7, 8]),
        (["1.5", "2"], pa.array([0.25]), [1.5, 2, 0.25]),
        (["1.0", "2.0"], pa.array([7]), [1, 2, 7]),
        (["1.5", "2"], pa.array([7]), [1.5, 2, 7]),
        (["True", "false"], pa.array([True]), [True, False, True]),
        (["[1, 2]", None], pa.array([[3]]), [[1, 2], None, [3]]),
        (['{"a": 1}'], pa.array([{"a": 2}]), [{"a": 1}, {"a": 2}]),
        (["x"], pa.array(["y"]).dictionary_encode(), ["x", "y"]),
        (["x"], pa.array(["y"], pa.large_string()), ["x", "y"]),
        (["x", "7"], pa.array([7]), ["x", "7", "7"]),
        (["x"], pa.array([[3]]), ["x", "[3]"]),
        (["x"], pa.nulls(2), ["x", None, None]),
    ],
)
def test_text_becomes_what_others_are_or_all_become_text(
    text: list, typed: pa.Array, expected: list[Any]
) -> None:
    parts = [pa.table({"a": pa.array(text, pa.string())}), pa.table({"a": typed})]
    assert join_tables(parts)["a"].to_pylist() == expected
    count = len(text)
    backwards = [*expected[count:], *expected[:count]]
    assert join_tables(parts[::-1])["a"].to_pylist() == backwards


def test_what_cannot_be_one_column_is_named() -> None:
    parts = [pa.table({"a": [[1]]}), pa.table({"a": [2]})]
    with pytest.raises(InputError, match=r"do not go together: .*drop_columns"):
        join_tables(parts)


def test_a_csv_and_a_typed_file_merge(tmp_path: Path) -> None:
    labels = LabelTable.from_columns(
        image=["a.jpg", "b.jpg"], expression=["dog", "cat"], box=[[1, 2, 3, 4]] * 2,
        rank=[3, 4], share=[0.5, 1.0], tags=[["x"], ["y", "z"]], checked=[True, False],
    )  # fmt: skip
    for name in ("a.csv", "a.parquet", "a.tsv", "a.jsonl", "a.json"):
        labels.write(tmp_path / name)
    tables = [read_labels(path) for path in sorted(tmp_path.iterdir())]
    for order in (tables, tables[::-1]):
        merged = merge_labels(order, "abcde")
        assert len(merged) == 2
        for name in ("rank", "share", "tags", "checked"):
            assert merged[name].to_pylist() == labels[name].to_pylist()
    both = read_labels([tmp_path / "a.csv", tmp_path / "a.parquet"])
    assert both["rank"].to_pylist() == [3, 4, 3, 4]
