"""Pickles of Python 2, and files that were copied or stored as text."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from clipvg.errors import InputError
from clipvg.labels import read_labels
from clipvg.runtime.unpickle import read_pickle

# Written by Python 2.7: pickle.dumps([u"caf\xe9", "caf\xe9", "caf\xc3\xa9", 3L, True], PROTOCOL)
PYTHON_2 = {
    0: b"(lp0\nVcaf\xe9\np1\naS'caf\\xe9'\np2\naS'caf\\xc3\\xa9'\np3\naL3L\naI01\na.",
    1: b"]q\x00(X\x05\x00\x00\x00caf\xc3\xa9q\x01U\x04caf\xe9q\x02U\x05caf\xc3\xa9q\x03L3L\n"
    b"I01\ne.",
    2: b"\x80\x02]q\x00(X\x05\x00\x00\x00caf\xc3\xa9q\x01U\x04caf\xe9q\x02U\x05caf\xc3\xa9q\x03"
    b"\x8a\x01\x03\x88e.",
}
# numpy.array([1.5, -2]) of Python 2.7, whose values are a string
ARRAY = (
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87"
    b"Rq\x03(K\x01K\x02\x85cnumpy\ndtype\nq\x04U\x02f8K\x00K\x01\x87Rq\x05(K\x03U\x01<NNNJ\xff\xff"
    b"\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10\x00\x00\x00\x00\x00\x00\xf8?\x00\x00\x00\x00\x00\x00"
    b"\x00\xc0tb."
)
ROWS = [("a.jpg", f"{i}.pth", [1, 2, 10, 13], "red\ndog", "x") for i in range(20)]


@pytest.mark.parametrize("protocol", PYTHON_2)
def test_python_2(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a.p"
    path.write_bytes(PYTHON_2[protocol])
    assert read_pickle(path, "text") == ["café", "café", "café", 3, True]


def test_arrays_of_python_2(tmp_path: Path) -> None:
    path = tmp_path / "a.p"
    path.write_bytes(ARRAY)
    assert read_pickle(path, "numbers") == [1.5, -2]


@pytest.mark.parametrize("form", ["zip", "legacy", 0, 2, 4])
@pytest.mark.parametrize("damage", ["ends of lines", "code page"])
def test_stored_as_text(tmp_path: Path, form: str | int, damage: str) -> None:
    path = tmp_path / "unc_val.pth"
    if isinstance(form, int):
        path.write_bytes(pickle.dumps(ROWS, form))
    else:
        torch.save(ROWS, path, _use_new_zipfile_serialization=form == "zip")
    data = path.read_bytes()
    if damage == "ends of lines":
        path.write_bytes(data.replace(b"\n", b"\r\n"))
    else:
        path.write_bytes(data.decode("latin-1").encode())
    labels = read_labels(path)
    assert labels.expressions == ["red\ndog"] * 20
    assert labels.boxes()[0].tolist() == [1, 2, 11, 15]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"\r\n", b"\n").replace(b"\x80", b"\xef\xbf\xbd"),
        lambda data: data[: len(data) // 2],
    ],
)
def test_what_is_lost_is_said(tmp_path: Path, change: object) -> None:
    path = tmp_path / "unc_val.pth"
    path.write_bytes(change(pickle.dumps(ROWS)))  # type: ignore[operator]
    with pytest.raises(InputError, match="copied or stored as text, fetch it again in binary mode"):
        read_labels(path)


@pytest.mark.parametrize("name", ["unc_val.pth", "a.csv", "a.json", "a.jsonl", "a.parquet"])
def test_what_a_failed_download_leaves(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("\n<!DOCTYPE html><html>Too many people have viewed this file</html>")
    with pytest.raises(InputError, match="a web page, as some servers send in place of a file"):
        read_labels(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    with pytest.raises(InputError, match="a pointer of Git LFS, not the file; run git lfs pull"):
        read_labels(path)
