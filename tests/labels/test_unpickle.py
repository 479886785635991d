"""Pickles that want to run something, and files that are damaged."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from clipvg.errors import InputError
from clipvg.labels import read_labels
from clipvg.labels.unpickle import load_plain


class Malicious:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


def attacks(marker):
    return {
        "os.system": Malicious(os.system, f"touch {marker}"),
        "eval": Malicious(eval, f"open({str(marker)!r}, 'w')"),
        "exec": Malicious(exec, f"open({str(marker)!r}, 'w')"),
        "getattr": Malicious(getattr, "text", "upper"),
        "open": Malicious(open, str(marker), "w"),
        "nested": Malicious(list, [Malicious(os.mkdir, str(marker))]),
        "tensor loader": Malicious(torch.storage._load_from_bytes, b"x"),
    }


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("kind", list(attacks("x")))
def test_nothing_is_run(tmp_path, kind, form):
    marker, path = tmp_path / "marker", tmp_path / "unc_val.pth"
    rows = [("a.jpg", "s", [1, 2, 3, 4], "dog", attacks(marker)[kind])]
    if form == "pickle":
        path.write_bytes(pickle.dumps(rows))
    else:
        torch.save(rows, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(InputError, match="which is not label data; nothing was run") as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_files_cannot_change_the_reader(tmp_path):
    """A BUILD instruction that sets an attribute of what a name stands for."""
    path = tmp_path / "x.p"
    path.write_bytes(b"cnumpy\nndarray\n(N(S'tolist'\nS'gone'\ndtb.")
    with pytest.raises(InputError):
        load_plain(path)
    rows = [("a.jpg", "s", np.array([1, 2, 3, 4.0]), "dog", "t")]
    torch.save(rows, tmp_path / "unc_val.pth")
    assert read_labels(tmp_path / "unc_val.pth").boxes().tolist() == [[1, 2, 4, 6]]


def test_checkpoint_with_a_namespace_is_refused(tmp_path):
    import argparse

    path = tmp_path / "unc_best.pth"
    torch.save({"args": argparse.Namespace(a=1), "model": {"w": torch.ones(2)}}, path)
    with pytest.raises(InputError, match=r"the name 'argparse\.Namespace'"):
        read_labels(path)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_damaged_files_give_one_line(tmp_path, form):
    path = tmp_path / "unc_val.pth"
    rows = [("a.jpg", "s", torch.arange(4.0), "dog", "t")] * 20
    torch.save(rows, path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    for cut in range(0, len(whole) - 1, 37):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError) as caught:
            read_labels(path)
        assert "\n" not in str(caught.value)


def test_noise_never_escapes_as_another_error(tmp_path, rng):
    path = tmp_path / "unc_val.pth"
    torch.save(
        [("a.jpg", "s", [1, 2, 3, 4], "dog", "t")], path, _use_new_zipfile_serialization=False
    )
    whole = bytearray(path.read_bytes())
    for _ in range(200):
        noisy = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            noisy[place] = rng.integers(0, 256)
        path.write_bytes(noisy)
        try:
            read_labels(path)
        except InputError:
            pass


def test_other_zip_and_text_files(tmp_path):
    path = tmp_path / "unc_val.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match=r"a zip archive, but not one of torch\.save"):
        load_plain(path)
    path.write_text("image,expression\n")
    with pytest.raises(InputError, match="damaged, or not a torch or pickle file"):
        load_plain(path)
    with pytest.raises(InputError, match="no such file"):
        load_plain(tmp_path / "none.pth")


def test_plain_containers_come_back(tmp_path):
    value = {"a": [1, (2.5, None)], "b": {"c": True}, "d": {3}, "e": b"text"}
    path = tmp_path / "x.p"
    for protocol in range(6):
        path.write_bytes(pickle.dumps(value, protocol))
        assert load_plain(path) == {**value, "d": [3], "e": "text"}
