import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clipvg.errors import InputError
from clipvg.runtime.files import atomic_folder, atomic_path, read_json, remove_leftovers

WRITE_HALF = """
import os, sys
from clipvg.runtime.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text('half')
    os._exit(1)
"""


def test_writes_and_makes_the_folder(tmp_path):
    target = tmp_path / "a" / "b.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".txt"
        assert not target.exists()
    assert target.read_text() == "new"
    assert [p.name for p in target.parent.iterdir()] == ["b.txt"]


def test_failure_keeps_the_old_file_and_leaves_nothing(tmp_path):
    target = tmp_path / "b.txt"
    target.write_text("old")

    def write_half():
        with atomic_path(target) as temporary:
            temporary.write_text("new")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_half()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["b.txt"]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
        type("SafetensorError", (Exception,), {})("Error while serializing: I/O error"),
    ],
)
def test_a_disk_that_is_full_in_a_writers_own_words_names_the_file(tmp_path, error):
    with pytest.raises(OSError, match="could not be written whole") as caught:
        with atomic_path(tmp_path / "a.pt"):
            raise error
    assert caught.value.filename == str(tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_in_the_place_of_json_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "summary.json")
    with pytest.raises(InputError, match=r"summary\.json is a device or pipe; remove it"):
        read_json(tmp_path / "summary.json")
    with pytest.raises(InputError, match="is a folder; remove it"):
        read_json(tmp_path)
    assert read_json(tmp_path / "none.json") == {}


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    for name in ("a/b.txt", "plain"):
        subprocess.run([sys.executable, "-c", WRITE_HALF, str(tmp_path / name)], check=False)
    kept = {"a/b.txt", ".lock", ".name.tmp", ".tmp.parquet"}
    for name in kept:
        (tmp_path / name).write_text("whole")
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == len(kept) + 2
    remove_leftovers(tmp_path)
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert files == kept


def test_the_next_writer_of_a_file_removes_what_a_killed_one_left(tmp_path):
    target = tmp_path / "[b].png"
    subprocess.run([sys.executable, "-c", WRITE_HALF, str(target)], check=False)
    (left,) = tmp_path.iterdir()
    process, machine, number = re.search(r"\.(.{8})(.{8})(.{8})\.tmp\.png", left.name).groups()
    mine, elsewhere = (
        tmp_path / f".[b].{process}{machine}{number}.tmp.png"
        for process, machine in ((f"{os.getpid():08x}", machine), (process, "00000000"))
    )
    for path in (mine, elsewhere):  # their writers are alive, or may be
        path.write_text("half")
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
    assert {*tmp_path.iterdir()} == {target, mine, elsewhere}


@pytest.mark.parametrize("address", ["s3://bucket/a.csv", "gs:/bucket/a.csv"])
def test_an_address_is_no_file_to_write(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    for write in (atomic_path, atomic_folder):
        with pytest.raises(InputError, match="only files on this machine"), write(Path(address)):
            pytest.fail("it went ahead")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [(28, "No space left on device"), (5, "I/O error", "t")])
def test_an_error_names_the_file_that_was_asked_for(tmp_path, words):
    target = tmp_path / "b.txt"

    def fail():
        with atomic_path(target) as temporary:
            raise OSError(*(str(temporary) if word == "t" else word for word in words))

    with pytest.raises(OSError, match=words[1]) as caught:
        fail()
    assert caught.value.filename == str(target)


def test_killed_writer_leaves_the_old_file(tmp_path):
    target = tmp_path / "b.txt"
    target.write_text("old")
    script = (
        "import os, sys\nfrom clipvg.runtime.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as t:\n    t.write_text('half')\n    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(target)]).returncode == 9
    assert target.read_text() == "old"


def test_file_gets_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "usual").touch()
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.touch(mode=0o600)
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "a" / "model"
    for name in ("old", "new"):
        with atomic_folder(folder) as new:
            (new / name).write_text(name)
    assert [path.name for path in folder.iterdir()] == ["new"]

    def fail():
        with atomic_folder(folder) as new:
            (new / "half").write_text("3")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_killed_writer_leaves_the_old_folder_and_the_next_one_tidies_up(tmp_path):
    folder = tmp_path / "model"
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom clipvg.runtime.files import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as new:\n"
        "    (new / 'half').write_text('half')\n    os._exit(9)\n"
    )
    with atomic_folder(folder) as new:
        (new / "old").write_text("old")
    assert subprocess.run([sys.executable, "-c", script, str(folder)]).returncode == 9
    assert [path.name for path in folder.iterdir()] == ["old"]
    with atomic_folder(folder) as new:
        (new / "new").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("writer", ["torch", "safetensors"])
def test_a_full_disk_is_told_as_the_system_tells_it(tmp_path: Path, writer: str) -> None:
    import resource

    import torch
    from safetensors.torch import save_file

    tensors = {"a": torch.zeros(100_000)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            with atomic_path(tmp_path / "weights") as temporary:
                (torch.save if writer == "torch" else save_file)(tensors, temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(tmp_path / "weights")
    assert not list(tmp_path.iterdir())
