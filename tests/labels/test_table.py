import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from clipvg.errors import InputError
from clipvg.labels import LabelTable, check_labels
from clipvg.labels.schema import encode_names


@pytest.fixture
def labels() -> LabelTable:
    return LabelTable.from_columns(
        image=["a.jpg", "b.jpg", "a.jpg"],
        expression=["red dog", "left cat", "Tree"],
        box=[[10.6, 20, 30, 40], [0, 0, 5.9, 5], [1.5, 1, 2, 2]],
        box_format=["xyxy", "xywh", "xywh"],
        source=["template", None, "caption"],
        width=[100, None, 100],
        height=[50, 60, 50],
        weight=[0.5, np.nan, 2],
        truth=[[1, 2, 3, 4], [np.nan] * 4, [5, 6, 7, 8]],
        images="root",
        note=["x", "y", "z"],
        **{"reliability.m1": [0.25, np.nan, 1.0]},
    )


def test_columns(labels):
    assert len(labels) == 3
    assert labels.num_images == 2
    assert labels.image_names == ["a.jpg", "b.jpg", "a.jpg"]
    assert str(labels.image_path("a.jpg")) == "root/a.jpg"
    assert labels.sources() == ["template", "", "caption"]
    assert_array_equal(labels.weights(), np.float32([0.5, 1, 2]))
    assert_array_equal(labels.sizes(), [[100, 50], [-1, 60], [100, 50]])
    assert labels.reliability_names == ["m1"]
    assert_array_equal(labels.reliability("m1"), np.float32([0.25, np.nan, 1]))
    assert labels.has_truth
    assert_array_equal(labels.truth()[1], [np.nan] * 4)
    assert labels.truth().dtype == np.float32


def test_boxes_are_converted_in_double_and_cut_before(labels):
    expected = [[10.6, 20, 30, 40], [0, 0, 5.9, 5], [1.5, 1, 3.5, 3]]
    assert_array_equal(labels.boxes(), np.float32(expected))
    # 1.5 + 2 is 3.5, but the reference cuts 1.5 to 1 first
    assert_array_equal(labels.boxes(integer=True), [[10, 20, 30, 40], [0, 0, 5, 5], [1, 1, 3, 3]])
    rows = np.array([2, 0])
    assert_array_equal(labels.boxes(rows=rows), np.float32(expected)[rows])
    assert_array_equal(labels.boxes(integer=True, rows=rows), labels.boxes(integer=True)[rows])
    assert labels.boxes(rows=np.array([], dtype=np.int64)).shape == (0, 4)
    negative = LabelTable.from_columns(image=["a"], expression=["e"], box=[[-1.7, 0, 3, 3]])
    assert negative.boxes(integer=True)[0, 0] == -1  # cut towards zero


def test_absent_columns_have_defaults():
    labels = LabelTable.from_columns(image=["a"], expression=["e"], box=[[0, 0, 1, 1]])
    assert not labels.has_truth
    assert np.isnan(labels.truth()).all()
    assert labels.weights().tolist() == [1]
    assert labels.sizes().tolist() == [[-1, -1]]
    assert labels.sources() == [""]
    assert labels.images is None


def test_select_by_mask_and_by_indices(labels):
    kept = labels.select(np.array([True, False, True]))
    assert kept.expressions == ["red dog", "Tree"]
    assert labels.select([2, 0, 2]).expressions == ["Tree", "red dog", "Tree"]
    assert labels.select([]).boxes().shape == (0, 4)
    assert_array_equal(kept.truth(), [[1, 2, 3, 4], [5, 6, 7, 8]])
    with pytest.raises(InputError, match=r"mask of shape \(2,\) for 3 labels"):
        labels.select(np.array([True, False]))


def test_with_column_adds_replaces_and_nulls_nan(labels):
    scored = labels.with_column("reliability.m2", np.array([0.1, np.nan, 0.3]))
    assert scored.reliability_names == ["m1", "m2"]
    assert scored.table.column("reliability.m2").null_count == 1
    assert labels.reliability_names == ["m1"]
    again = scored.with_column("reliability.m2", [1, 1, 1])
    assert again.reliability("m2").tolist() == [1, 1, 1]
    with pytest.raises(InputError, match="has 2 values for 3 labels"):
        labels.with_column("weight", [1, 2])
    with pytest.raises(InputError, match="no reliability by 'm3': choose from m1, m2"):
        scored.reliability("m3")


def test_reliability_of_labels_that_are_not_scored():
    labels = LabelTable.from_columns(image=["a.jpg"], expression=["a dog"], box=[[0, 0, 1, 1]])
    with pytest.raises(InputError, match="not scored; run clipvg score"):
        labels.reliability("m1")


def test_fingerprint_sees_what_training_reads_and_nothing_else(labels):
    print_ = labels.fingerprint()
    noise = np.random.default_rng(0).uniform(0, 9, (3, 4))
    same = [
        labels.with_column("truth", noise),
        labels.drop_columns("truth"),
        labels.with_column("reliability.m1", [0, 0, 0]),
        labels.drop_columns(["note", "width", "not there"]),
        LabelTable.concat([labels.select([0]), labels.select([1, 2])]),
        labels.with_column("weight", [0.5, 1, 2]),  # null weighs 1
    ]
    assert {table.fingerprint() for table in same} == {print_}
    others = [
        labels.select([1, 0, 2]),
        labels.with_column("weight", [1, 1, 1]),
        labels.with_column("expression", ["red do", "gleft cat", "Tree"]),
        labels.with_column("box_format", ["xyxy"] * 3),
        labels.with_column("source", ["a"] * 3),
        labels.with_column("image", ["b.jpg"] * 3),
    ]
    assert len({print_, *(table.fingerprint() for table in others)}) == 7


def test_concat_fills_columns_and_joins_roots(labels):
    plain = LabelTable.from_columns(image=["c"], expression=["e"], box=[[0, 0, 1, 1]], images="r2")
    both = LabelTable.concat([labels, plain])
    assert both.images is None
    assert both.image_names[0].endswith("root/a.jpg")
    assert both.image_names[3].endswith("r2/c")
    assert both.sources() == ["template", "", "caption", ""]
    assert both.boxes()[3].tolist() == [0, 0, 1, 1]
    assert LabelTable.concat([labels, labels]).images == labels.images


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.int64()), pa.string()])
def test_boxes_of_other_arrow_types(kind):
    values = ["[1, 2, 3, 4]", "(5,6,7,8)"] if kind == pa.string() else [[1, 2, 3, 4], [5, 6, 7, 8]]
    table = pa.table({"image": ["a", "b"], "expression": ["x", "y"], "box": pa.array(values, kind)})
    assert LabelTable(table).boxes().tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    ("names", "box_format"), [(["x1", "y1", "x2", "y2"], "xyxy"), (["x", "y", "w", "h"], "xywh")]
)
def test_box_from_four_columns(names, box_format):
    parts = dict(zip(names, [[1], [2], [3.5], [4]], strict=True))
    labels = LabelTable(pa.table({"image": ["a"], "expression": ["x"], **parts}))
    assert labels.table.column("box").to_pylist() == [[1, 2, 3.5, 4]]
    assert labels.table.column("box_format").to_pylist() == [box_format]
    assert not set(names) & set(labels.table.column_names)


def test_missing_columns_name_near_matches():
    table = pa.table({"images": ["a"], "caption": ["x"], "bbox": [[1, 2, 3, 4]]})
    with pytest.raises(InputError) as caught:
        LabelTable(table)
    message = str(caught.value)
    assert "no column 'image' (did you mean 'images'?)" in message
    assert "no column 'box' (did you mean 'bbox'?)" in message
    assert "\n" not in message


def test_boxes_of_three_numbers_name_the_row():
    with pytest.raises(InputError, match=r"row 1: box '\[1, 2, 3\]' is not four numbers"):
        LabelTable.from_columns(
            image=["a", "b"], expression=["x", "y"], box=[[1, 2, 3, 4], [1, 2, 3]]
        )


def test_values_of_the_wrong_kind_name_the_row():
    table = pa.table(
        {
            "image": ["a"] * 2,
            "expression": ["x"] * 2,
            "box": [[0, 0, 1, 1]] * 2,
            "weight": ["1", "b"],
        }
    )
    with pytest.raises(InputError, match="row 1: column 'weight'"):
        LabelTable(table)


def test_null_names_have_a_fingerprint():
    rows = {"image": [None, "a"], "expression": ["x", None], "box": [[0.0, 0.0, 9.0, 9.0]] * 2}
    labels = LabelTable(pa.table(rows))
    assert labels.fingerprint() != labels.select([0]).fingerprint()
    blank = check_labels(labels, open_images=False).findings
    assert [(found.kind, found.rows.tolist()) for found in blank] == [
        ("path", [0]),
        ("empty-expression", [1]),
    ]


def test_columns_that_do_not_go_together_are_named_in_one_line(labels):
    lists = labels.with_column("note", [[1], [2], [3]]), labels.with_column("note", [1, 2, 3])
    with pytest.raises(InputError, match=r"do not go together: .*note.*drop_columns") as error:
        LabelTable.concat(lists)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rows", [[-1], [0, 3], [0.7]])
def test_rows_that_are_not_there_are_refused(labels, rows):
    with pytest.raises(InputError, match="for 3 labels"):
        labels.select(rows)
    assert len(labels.select([])) == 0


CHUNKS = pa.chunked_array([["b", "a", None], ["b", "c"]])


@pytest.mark.parametrize(
    "values",
    [
        ["b", "a", "", "b", "c"],
        pa.array(["b", "a", None, "b", "c"]),
        CHUNKS,
        CHUNKS.dictionary_encode(),
        pa.chunked_array([chunk.dictionary_encode() for chunk in CHUNKS.chunks]),
        pa.DictionaryArray.from_arrays([1, 2, None, 3, 0], ["c", "b", "a", "b"]),
    ],
)
def test_encoded_names_come_in_order_of_appearance(values):
    names = encode_names(values)
    assert names.dictionary.to_pylist() == ["b", "a", "", "c"]
    assert names.indices.to_pylist() == [0, 1, 2, 0, 3]


def test_encoded_sources():
    labels = LabelTable.from_columns(image=list("xyz"), expression=list("xyz"), box=np.ones((3, 4)))
    assert labels.encoded_sources().to_pylist() == [""] * 3
    named = labels.with_column("source", ["s", None, "t"])
    assert named.encoded_sources().to_pylist() == ["s", "", "t"]
    for none in (named.select([]), labels.select([])):
        assert len(none.encoded_sources().dictionary) == 0
