"""Files of unreasonable size or shape are named in one line, before they are read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from clipvg.errors import InputError, printable
from clipvg.runtime.fields import field_problems
from clipvg.runtime.gate import check_file, check_local, read_json, read_xml, read_yaml, reading


def message_of(call: object, *args: object) -> str:
    with pytest.raises(InputError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_only_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "file").write_bytes(b"123")
    (tmp_path / "link").symlink_to("file")
    assert check_file(tmp_path / "link") == tmp_path / "link"
    assert "no file, but a pipe or device" in message_of(check_file, tmp_path / "pipe")
    assert "no file, but a pipe or device" in message_of(check_file, "/dev/zero")
    assert "is empty" in message_of(check_file, tmp_path / "empty")
    assert "no such file" in message_of(check_file, tmp_path / "none")
    assert "a folder" in message_of(check_file, tmp_path)
    assert "cannot be opened" in message_of(check_file, "a\0b")
    assert "cannot be opened" in message_of(check_file, "a" * 5000)
    assert "3 bytes, more than 2" in message_of(check_file, tmp_path / "file", 2)
    monkeypatch.setenv("CLIPVG_MAX_BYTES", "2")
    assert "raise CLIPVG_MAX_BYTES" in message_of(check_file, tmp_path / "file")


@pytest.mark.parametrize("address", ["s3://bucket/a.csv", "gs:/bucket/a", "https://x.org/a.jpg"])
def test_addresses_are_no_folders(address: str) -> None:
    assert "only files on this machine" in message_of(check_local, Path(address))
    assert message_of(check_local, address).startswith(address.replace(":/b", "://b"))


def nested_aliases() -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        nested_aliases(),
        "a: &a [*a]",
        "[" * 10_000,
        "a: 2001-99-99",
        "a: " + "9" * 5000,
        "a: !!python/object/apply:os.system [ls]",
        "a: [1",
        "? {b: 1}\n: 2",
    ],
)
def test_yaml_that_is_too_much(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    assert message_of(read_yaml, path, "YAML").startswith(f"{path}: ")


def test_json_and_xml_that_are_too_much(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for text in ("[" * 100_000, "9" * 5000, "{", "\x00"):
        path.write_text(text)
        assert "damaged, or not JSON" in message_of(read_json, path, "JSON")
    for text in (
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        "<?xml version='1.0' encoding='klingon'?><a/>",
        "<a>",
    ):
        for encoding in ("utf-8", "utf-16"):
            path.write_text(text, encoding=encoding)
            assert message_of(read_xml, path, "XML").startswith(f"{path}: ")


def test_what_parsers_raise_is_one_line() -> None:
    for error in (KeyError("a\nb"), RecursionError(), MemoryError(), UnicodeError("c")):
        with pytest.raises(InputError, match=r"^x\.json: ") as caught, reading("x.json", "JSON"):
            raise error
        assert "\n" not in str(caught.value)


def test_text_of_files_does_not_move_the_cursor() -> None:
    forged = "a\x1b[31m\nclipvg: done\u202e\x9b\ud800"
    assert printable(forged) == r"a\x1b[31m\nclipvg: done\u202e\x9b\ud800"
    assert printable(printable(forged)) == printable(forged)
    assert str(InputError(f"{forged}: no such file")).startswith(r"a\x1b[31m\nclipvg")
    assert printable("naïve “dog”\t狗") == "naïve “dog”\t狗"


@dataclass
class Example:
    """A configuration with every kind of field."""

    count: Annotated[int, (1, 10)] = 1
    share: Annotated[float, (0, 1)] = 0.5
    name: str | None = None
    kind: Literal["a", "b"] = "a"
    levels: list[int] | None = None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": "1"}, "count is '1', expected int"),
        ({"count": True}, "count is True, expected int"),
        ({"count": 2.5}, "count is 2.5, expected int"),
        ({"count": 11}, "count is 11, expected at most 10"),
        ({"count": 10**5000}, "expected at most 10"),
        ({"share": float("nan")}, "share is nan, expected a finite number"),
        ({"share": -1}, "share is -1, expected at least 0"),
        ({"name": ["x"]}, r"name is \['x'\], expected str or null"),
        ({"kind": "c"}, "kind is 'c', expected one of 'a', 'b'"),
        ({"levels": [1, "2"]}, r"levels is \[1, '2'\], expected list\[int\] or null"),
    ],
)
def test_fields_are_what_their_class_says(values: dict, message: str) -> None:
    assert not [*field_problems(Example())]
    (problem,) = field_problems(Example(**values))
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(problem)
