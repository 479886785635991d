"""Merge the labels of several files: duplicates become one, which keeps its files."""

from __future__ import annotations

import numpy as np
import pytest

from clipvg.labels import LabelTable, merge_labels

NAN = float("nan")


def table(expressions: list[str], **columns: object) -> LabelTable:
    count = len(expressions)
    return LabelTable.from_columns(
        image=["a.jpg"] * count,
        expression=expressions,
        **{"box": [[1, 2, 4, 6]] * count, **columns},
    )


def test_exact_duplicates_are_one_label_of_all_their_files() -> None:
    first, second = table(["dog", "cat", "dog"]), table(["sky", "cat"])
    merged = merge_labels([first, second], ["a.csv", "b.csv"])
    assert merged.expressions == ["dog", "cat", "sky"]
    assert merged["file"].to_pylist() == ["a.csv", "a.csv, b.csv", "b.csv"]


@pytest.mark.parametrize(
    "other",
    [
        table(["Dog"]),
        table(["dog"], box=[[1, 2, 4, 6.5]]),
        table(["dog"], source="caption"),
        table(["dog"], split="val"),
        table(["dog"]).with_column("image", ["./a.jpg"]),
    ],
)
def test_what_differs_is_another_label(other: LabelTable) -> None:
    assert len(merge_labels([table(["dog"]), other], ["a", "b"])) == 2


def test_a_box_written_otherwise_is_the_same(recwarn: pytest.WarningsRecorder) -> None:
    other = table(["dog"], box=[[1, 2, 3, 4]], box_format="xywh")
    merged = merge_labels([table(["dog"]), other], ["a", "b"])
    assert merged.boxes().tolist() == [[1, 2, 4, 6]]
    assert not recwarn


def test_values_that_one_row_lacks_come_from_the_others() -> None:
    first = table(["dog", "cat"], **{"reliability.a": [0.5, NAN], "weight": [1.0, 2.0]})
    second = table(["cat", "dog"], **{"reliability.b": [0.25, 0.75], "weight": [1.0, 1.0]})
    second = second.with_column("truth", [[0, 0, 1, 1], [NAN] * 4])
    with pytest.warns(UserWarning, match=r"other values than the first, which stay: weight \(1\)"):
        merged = merge_labels([first, second], ["a", "b"])
    assert merged["reliability.a"].to_pylist() == [0.5, None]
    assert merged["reliability.b"].to_pylist() == [0.75, 0.25]
    assert merged["weight"].to_pylist() == [1, 2]
    assert merged["truth"].to_pylist() == [None, [0, 0, 1, 1]]


def test_files_of_an_earlier_merge_stay() -> None:
    once = merge_labels([table(["dog"]), table(["cat"])], ["a", "b"])
    twice = merge_labels([once, table(["cat", "sky"])], ["once", "c"])
    assert twice["file"].to_pylist() == ["a", "b, c", "c"]


def test_nothing_and_nested_columns() -> None:
    assert len(merge_labels([table(["dog"])[:0]], ["a"])) == 0
    nested = table(["dog", "dog", "cat"], tags=[["x"], ["x"], ["y"]])
    assert merge_labels([nested], ["a"])["tags"].to_pylist() == [["x"], ["y"]]


def test_many_rows_equal_a_plain_search() -> None:
    draw = np.random.default_rng(0)
    words = [str(word) for word in draw.integers(0, 6, 300)]
    boxes = np.zeros((300, 4))
    boxes[:, 2:] = draw.integers(0, 3, (300, 2))
    labels = table(words, box=boxes)
    merged = merge_labels([labels[:100], labels[100:]], ["a", "b"])
    expected = list(dict.fromkeys(zip(words, map(tuple, boxes.tolist()), strict=True)))
    assert [(row["expression"], tuple(row["box"])) for row in merged] == expected
