"""LabelTable as a data frame: rows, filters, order, notebooks, Arrow and pandas."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from clipvg.errors import InputError
from clipvg.labels import LabelTable

BOXES = [[0.0, 0.0, 10.0, 10.0 + row] for row in range(5)]


@pytest.fixture
def labels() -> LabelTable:
    return LabelTable.from_columns(
        image=[f"{row % 2}.jpg" for row in range(5)],
        expression=["dog", "cat", "<b>", "sky", "dog"],
        box=BOXES,
        source=["template", "caption", "template", "caption", "template"],
        width=[640, 100, 640, 50, 640],
        images="images",
        **{"reliability.template": [0.7, 0.1, float("nan"), 0.5, 0.7], "note": list("edcba")},
    )


def test_columns_rows_and_slices(labels: LabelTable) -> None:
    assert labels["expression"].to_pylist() == labels.expressions
    assert labels["template"].to_pylist()[1] == pytest.approx(0.1)
    row = labels[-1]
    assert (row["expression"], row["box"], row["source"]) == ("dog", BOXES[4], "template")
    assert labels[np.int64(1)]["expression"] == "cat"
    for key, rows in (
        (slice(1, 3), [1, 2]),
        (slice(None, None, -2), [4, 2, 0]),
        (slice(4, 1), []),
        ([0, -1], [0, 4]),
        (np.array([True, False, False, True, False]), [0, 3]),
        (np.array([2]), [2]),
    ):
        some = labels[key]
        assert isinstance(some, LabelTable)
        assert some.boxes().tolist() == [BOXES[row] for row in rows]
        assert some.images == labels.images
    with pytest.raises(IndexError):
        labels[5]
    with pytest.raises(InputError, match=r"no column 'wdth': did you mean 'width'\?"):
        labels["wdth"]
    with pytest.raises(InputError, match="mask of shape"):
        labels[[True]]


def test_rows_come_one_by_one(labels: LabelTable) -> None:
    assert [row["expression"] for row in labels] == labels.expressions
    assert list(labels[:0]) == []


@pytest.mark.parametrize(
    ("conditions", "rows"),
    [
        (["template>=0.7"], []),  # float32(0.7) is a little less, as for thresholds everywhere
        (["template>=0.5"], [0, 3, 4]),
        (["reliability.template < 0.5"], [1]),
        (["template>=0.5", "source==template"], [0, 4]),
        (["expression!=dog"], [1, 2, 3]),
        (["width<=100"], [1, 3]),
        (["note>b"], [0, 1, 2]),
        ([pc.field("width") == 640], [0, 2, 4]),
        ([], [0, 1, 2, 3, 4]),
    ],
)
def test_filter(labels: LabelTable, conditions: list, rows: list[int]) -> None:
    assert labels.filter(*conditions).boxes().tolist() == [BOXES[row] for row in rows]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("template", "is not a condition"),
        ("template=0.5", "is not a condition"),
        ("tempate>=0.5", "no column 'tempate'"),
        ("width>=wide", "'wide' is not a number"),
        ("box>=1", "column 'box' holds"),
    ],
)
def test_what_is_no_condition(labels: LabelTable, condition: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        labels.filter(condition)


def test_order(labels: LabelTable) -> None:
    def rows(column: str, **options: bool) -> list[int]:
        return [int(box[3] - 10) for box in labels.sort_by(column, **options).boxes()]

    assert rows("template") == [1, 3, 0, 4, 2]  # nulls last, equal values in their old order
    assert rows("template", descending=True) == [0, 4, 3, 1, 2]
    assert rows("source") == [1, 3, 0, 2, 4]
    assert rows("note") == [4, 3, 2, 1, 0]
    with pytest.raises(InputError, match="has no order"):
        rows("box")


def test_a_notebook_shows_the_first_rows(labels: LabelTable) -> None:
    page = LabelTable.concat([labels] * 3)._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "(0, 0, 10, 12)" in page
    assert "5 more rows" in page
    assert "more rows" not in labels._repr_html_()


class Stranger:
    """A data frame of another library: it exports Polars' types through Arrow's C stream."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


def test_arrow_goes_out_without_a_copy(labels: LabelTable) -> None:
    other = pa.table(labels)
    assert other.equals(labels.table)
    for name in ("image", "box"):
        mine, theirs = (t.column(name).chunk(0).buffers() for t in (labels.table, other))
        addresses = [[b.address for b in buffers if b is not None] for buffers in (mine, theirs)]
        assert addresses[0] == addresses[1]


@pytest.mark.parametrize("text", [pa.large_string(), pa.string_view()])
def test_arrow_comes_in_with_the_types_of_others(labels: LabelTable, text: pa.DataType) -> None:
    boxes = labels["box"].to_pylist()
    table = pa.table(
        {
            "image": pa.array(labels.image_names, text),
            "expression": pa.array(labels.expressions, text),
            "box": pa.array(boxes, pa.large_list(pa.float64())),
            "source": pa.array(labels.sources()).dictionary_encode(),
            "width": pa.array([640] * 5, pa.int64()),
        }
    )
    read = LabelTable(Stranger(table), "images")
    assert read.fingerprint() == labels.fingerprint()
    with pytest.raises(InputError, match="a list is not a table of labels"):
        LabelTable([1, 2])


def test_pandas_there_and_back(labels: LabelTable) -> None:
    frame = labels.to_pandas()
    assert frame["expression"].tolist() == labels.expressions
    frame = frame[frame["width"] > 100]
    frame.index = ["x", "y", "z"]
    back = LabelTable.from_pandas(frame, images="images")
    assert back.table.column_names == labels.table.column_names
    assert len(back.filter("note>b")) == 2  # whichever string type pandas uses
    assert list(back) == list(labels.filter("width>100"))


def test_text_that_is_all_numbers_has_their_order(labels: LabelTable) -> None:
    counted = labels.with_column("n", pa.array(["9", "10", "1e-3", None, "9.5"]))
    assert counted.sort_by("n")["n"].to_pylist() == ["1e-3", "9", "9.5", "10", None]
    assert counted.filter("n>=9.5")["n"].to_pylist() == ["10", "9.5"]
    assert counted.filter("n==9")["n"].to_pylist() == ["9"]
    with pytest.raises(InputError, match="'expression' holds text that is not all numbers"):
        labels.filter("expression>5")


def test_text_in_views_as_polars_has_it() -> None:
    view = pa.string_view()
    words = pa.array(["template", None, "human"], view)
    codes = pa.DictionaryArray.from_arrays(
        pa.array([0, None, 1], pa.uint32()), pa.array(["template", "human"], view)
    )
    table = pa.table({
        "image": pa.array(["a", "b", "c"], view), "expression": pa.array(["x", "y", "z"], view),
        "box": [[1.0, 2.0, 3.0, 4.0]] * 3, "source": codes, "rule": words,
        "tags": pa.array([["p"], [], ["q", "r"]], pa.large_list(view)),
    })  # fmt: skip
    labels = LabelTable(table)
    assert labels.sources() == ["template", "", "human"]
    assert labels["rule"].to_pylist() == words.to_pylist()
    assert labels["tags"].to_pylist() == [["p"], [], ["q", "r"]]
    assert "view" not in str(labels.table.schema)
