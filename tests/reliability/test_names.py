"""Names of measurers: [NAME[@SOURCE]=]PATH."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipvg.errors import InputError
from clipvg.reliability import NamedCheckpoint, default_name, parse_measurer
from clipvg.reliability.names import check_names


def test_files_of_one_name_in_two_folders_have_two_names() -> None:
    assert default_name("a/best_checkpoint.pth") == "a/best_checkpoint"
    assert default_name("b/best_checkpoint.pth") == "b/best_checkpoint"


def test_a_file_here_takes_the_name_of_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_name("best.pth") == f"{tmp_path.name}/best"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/measurer/model", "measurer/model"),
        ("runs/v1.2/model", "v1.2/model"),
        ("runs/v1.2", "runs/v1.2"),
        ("hf-hub:org/grounder", "org/grounder"),
    ],
)
def test_folders_keep_their_whole_name(path: str, name: str) -> None:
    assert parse_measurer(path) == NamedCheckpoint(name, path)


def test_name_and_source() -> None:
    assert parse_measurer("m=a/b.pth") == NamedCheckpoint("m", "a/b.pth")
    assert parse_measurer("m@s=a/b.pth") == NamedCheckpoint("m", "a/b.pth", ("s",))
    assert parse_measurer("m@s,t=a/b.pth") == NamedCheckpoint("m", "a/b.pth", ("s", "t"))


def test_only_the_first_equals_sign_splits() -> None:
    assert parse_measurer("m=a=b/c.pth") == NamedCheckpoint("m", "a=b/c.pth")


def test_an_existing_path_is_never_split(tmp_path: Path) -> None:
    odd = tmp_path / "lr=0.1"
    odd.mkdir()
    assert parse_measurer(str(odd)).path == str(odd)


@pytest.mark.parametrize("text", ["", "=a.pth", "m=", "@s=a.pth", "m@=a.pth"])
def test_empty_parts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="PATH"):
        parse_measurer(text)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match=r"'m'.*NAME=PATH"):
        check_names(["m", "n", "m"])
