"""Small files that demand too much memory, time or stack."""

from __future__ import annotations

import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from clipvg.errors import InputError
from clipvg.runtime.unpickle import read_pickle

ARRAY = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"
SHAPE = ARRAY + b"(I1\n(J\x00\xca\x9a\x3b"
NEGATIVE = b"(I1\n(J\xff\xff\xff\xffJ\xff\xff\xff\xfft"
DTYPE = b"cnumpy\ndtype\n(U\x02f4tR(I3\nU\x01<NNNtb"


def long_get(index: int) -> bytes:
    return b"r" + struct.pack("<I", index)


def text(length: int) -> bytes:
    return b"X" + struct.pack("<I", length) + b"a" * length


def nested_lists(levels: int) -> bytes:
    """Return a pickle in which each list holds the one before twice: 2 ** levels in the end."""
    parts = b"]q\x00"
    for i in range(levels):
        parts += b"](h%ch%ceq%c" % (i, i, i + 1)
    return b"\x80\x02" + parts + b"."


BOMBS = {
    "lists of lists twice": nested_lists(100),
    "lists twice, filled from the top": b"]q\x00"
    + b"".join(b"h%c(]q%ch%ce0" % (i, i + 1, i + 1) for i in range(40))
    + b"h\x00.",
    "a list in itself": b"]q\x00(h\x00h\x00e.",
    "a call in its own state": b"cnumpy\nndarray\n(tRq\x00(h\x00h\x00h\x00h\x00h\x00tb.",
    "a memo with a gap": b"N" + long_get(2**32 - 1) + b".",
    "a memo in text with a gap": b"Np%d\n." % 2**63,
    "tuples nested deeply": b")" + b"\x85" * 1_000_000 + b".",
    "a deep tuple as a key": b"})" + b"\x85" * 1_000_000 + b"Ns.",
    "a deep tuple in a set": b"\x8f()" + b"\x85" * 1_000_000 + b"\x90.",
    "lists nested deeply": b"]" * 1_000_000 + b"a" * 999_999 + b".",
    "marks": b"(" * 2_100_000 + b".",
    "sets": b"\x8f" * 2_100_000 + b".",
    "references": b"N" + b"\x94" * 2_100_000 + b".",
    "shared text": text(10**6) + b"q\x000](" + b"h\x00" * 10**6 + b"e.",
    "shared text made again and again": text(10**5) + b"q\x000]("
    + b"c_codecs\nencode\n(h\x00tR" * 10_000 + b"e.",
    "a long path": b"cpathlib\nPosixPath\n(" + text(5000) + b"tR.",
    "bytes of a number": SHAPE + b"t" + DTYPE + b"I00\ncbuiltins\nbytes\n.",
    "data that is a number": SHAPE + b"t" + DTYPE + b"I00\nJ\x00\xca\x9a\x3btb.",
    "an array of nothing": SHAPE + b"K\x00t" + DTYPE + b"I00\nC\x00tb.",
    "a negative shape": ARRAY + NEGATIVE + DTYPE + b"I00\nC\x00tb.",
    "a long integer": b"\x8b" + struct.pack("<I", 10**6) + b"\x01" * 10**6 + b".",
    "a long written integer": b"I" + b"9" * 100_000 + b"\n.",
    "bytes that are not there": b"\x8e" + struct.pack("<Q", 2**62) + b".",
    "a call of itself": b"cfunctools\npartial\n(cfunctools\npartial\ntR.",
    "a state for a name": b"c_codecs\nencode\n(N}tb.",
}  # fmt: skip


@pytest.fixture
def limited() -> None:
    """Limit memory to less than a bomb takes, but more than its file explains."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_stays_small(name: str, tmp_path: Path, limited: None) -> None:
    path = tmp_path / "x.p"
    path.write_bytes(BOMBS[name])
    if name.startswith("a memo"):
        assert read_pickle(path, "labels") is None
        return
    with pytest.raises(InputError) as caught:
        read_pickle(path, "labels")
    assert len(str(caught.value)) < 400 + len(str(path))
    assert "\n" not in str(caught.value)


def torch_file(path: Path, *, change: dict[bytes, bytes] | None = None) -> None:
    torch.save({"w": torch.zeros(7, 3)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            for old, new in (change or {}).items():
                data = data.replace(old, new) if name.endswith("data.pkl") else data
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"K\x07K\x03", b"J\x00\xca\x9a\x3bK\x03"),  # a huge shape
        (b"K\x07K\x03", b"J\x00\xca\x9a\x3bK\x00"),  # and one without elements
        (b"K\x07K\x03", b"J\xff\xff\xff\xffK\x03"),
        (b"K\x03K\x01", b"K\x00K\x00"),  # one value repeated is allowed: as many are stored
        (b"K\x03K\x01", b"K\x7fK\x01"),
        (b"K\x03K\x01", b"J\xff\xff\xff\xffK\x01"),
    ],
)
def test_a_tensor_is_no_larger_than_its_bytes(old: bytes, new: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch_file(path, change={old: new})
    if new == b"K\x00K\x00":
        assert read_pickle(path, "tensors") == {"w": [[0.0] * 3] * 7}
        return
    with pytest.raises(InputError, match="a tensor of shape"):
        read_pickle(path, "tensors")


def test_expanded_tensors_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    huge = b"J\x00\xca\x9a\x3bK\x03"
    torch_file(path, change={b"K\x07K\x03": huge, b"K\x03K\x01": b"K\x00K\x00"})
    with pytest.raises(InputError, match="a tensor of shape"):
        read_pickle(path, "tensors", tensor=lambda stored: stored)


def test_a_zip_file_is_not_inflated(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(270_000_000))
    with pytest.raises(InputError, match="270,000,000 bytes or more in a smaller file"):
        read_pickle(path, "tensors")


def test_the_shortest_file_that_killed_the_interpreter(tmp_path: Path) -> None:
    """In a process of its own, as a failure would kill the interpreter without an exception."""
    path = tmp_path / "unc_val.pth"
    path.write_bytes(b"cfunctools\npartial\n(cfunctools\npartial\ntRq\x00(h\x00)}Ntb(tR.")
    code = (
        "import sys, clipvg\ntry: clipvg.read_labels(sys.argv[1])\nexcept ValueError: print('no')"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stdout == "no\n", done.stderr


def test_honest_sharing_stays(tmp_path: Path) -> None:
    parse = [("r1", ["man"]), ("r8", ["none", "red"])]
    rows = [("a.jpg", "s", [1, 2, 3, i], "dog", parse) for i in range(10_000)]
    path = tmp_path / "x.p"
    for protocol in range(6):
        path.write_bytes(pickle.dumps(rows, protocol))
        assert read_pickle(path, "labels") == rows
    boxes = np.arange(40_000.0).reshape(-1, 4)
    path.write_bytes(pickle.dumps({"boxes": boxes, "same": boxes, "list": list(boxes[:100])}))
    found = read_pickle(path, "labels")
    assert found["boxes"] == found["same"] == boxes.tolist()
    assert found["list"] == boxes[:100].tolist()
