"""JSON read object by object equals `json`'s result; errors say where it is not JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipvg.errors import InputError
from clipvg.labels import read_labels
from clipvg.labels.formats import objects
from clipvg.labels.formats.objects import list_of, read_list, value_of

LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text())
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
OBJECTS = st.lists(st.dictionaries(st.text(), VALUES, max_size=3), max_size=5)


@settings(max_examples=60, deadline=None)
@given(items=OBJECTS, indent=st.sampled_from([None, 1]), piece=st.integers(1, 40))
def test_a_list_in_pieces_of_any_length(items: list[dict], indent: int | None, piece: int) -> None:
    text = f" {json.dumps(items, indent=indent, ensure_ascii=False)} \n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "_PIECE", piece)
        assert list(read_list(io.StringIO(text), "a.json")) == items


@pytest.mark.parametrize("piece", [1, 5, 2**22])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[{"a": 1},\n]', r"row 1 \(line 2\): not JSON \(a comma behind the last object\)"),
        ('[{"a": 1}', r"row 1 \(line 1\): not JSON \('the end' where ',' belongs\)"),
        ('[{"a": 1}\n{"a": 2}]', r"row 1 \(line 2\): not JSON \('{' where ',' belongs\)"),
        ('[{"a": 1}]\n\n[]', r"row 1 \(line 3\): not JSON \('\[' where 'the end' belongs\)"),
        ('[{"a": 1},\n{"a": \n}]', r"row 1 \(line 3\): not JSON \(Expecting value\)"),
        ('[{"a": 1},\n 12]', r"row 1 \(line 2\): a number, expected an object with image"),
        ("[{'a': 1}]", r"row 0 \(line 1\): not JSON \(Expecting property name"),
        ('[{"a": ' + "9" * 5000 + "}]", r"row 0 \(line 1\): not JSON \(Exceeds the limit"),
    ],
)
def test_where_it_is_no_json(
    text: str, expected: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_PIECE", piece)
    with pytest.raises(InputError, match=f"^a.json {expected}"):
        list(read_list(io.StringIO(text), "a.json"))


def test_values_of_what_may_be_anything() -> None:
    assert value_of({"a": None}, "a", "f") is None
    assert list_of({"a": (1, 2)}, "a", "f") == [1, 2]
    assert list_of({"a": None}, "a", "f") == []
    with pytest.raises(InputError, match="f: 'x' where an object with 'a' belongs"):
        value_of("x", "a", "f")
    with pytest.raises(InputError, match="f: no 'a' in an object that has b, c"):
        value_of({"b": 1, "c": 2}, "a", "f")
    with pytest.raises(InputError, match="f: 'a' is '3', where a list belongs"):
        list_of({"a": 3}, "a", "f")


def test_a_single_label_is_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    row = {"image": "a.jpg", "expression": "dog", "box": [1, 2, 3, 4]}
    path.write_text(json.dumps(row, indent=1))
    assert read_labels(path)[0] == row
    path.write_text(json.dumps({"image": {"0": "a.jpg"}, "expression": {"0": "dog"}}))
    with pytest.raises(InputError, match=r"an object with image, expression: .*orient='records'"):
        read_labels(path)
