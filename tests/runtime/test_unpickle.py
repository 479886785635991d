"""Pickles that try to run code, and damaged files."""

import argparse
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from clipvg.errors import InputError
from clipvg.labels import read_labels
from clipvg.runtime.unpickle import StoredTensor, read_pickle


def read(path, **options):
    return read_pickle(path, "labels", **options)


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
    with pytest.raises(InputError, match="which could run code; nothing was run") as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_files_cannot_change_the_reader(tmp_path):
    """Refuse BUILD instructions that set attributes of a named object, or of what it makes."""
    path = tmp_path / "x.p"
    state = b"(N(S'make'\nS'gone'\ndtb."
    for victim in (b"cnumpy\nndarray\n", b"cargparse\nNamespace\n", b"c_codecs\nencode\n"):
        for change in (state, state.replace(b"(N(", b"(").replace(b"dtb", b"db"), b"(tb.", b"Nb."):
            path.write_bytes(victim + change)
            with pytest.raises(InputError):
                read(path)
    # the state that a functools.partial would take: function, arguments, keywords, attributes
    path.write_bytes(b"c_codecs\nencode\n(c_codecs\nencode\n(S'a'\nt(dNtb(S'b'\ntR.")
    with pytest.raises(InputError, match="an instruction to change the reader"):
        read(path)
    path.write_bytes(b"c_codecs\nencode\n(S'a'\ntR(N(S'make'\nS'gone'\ndtb.")
    assert read(path) == "a"
    rows = [("a.jpg", "s", np.array([1, 2, 3, 4.0]), "dog", "t")]
    torch.save(rows, tmp_path / "unc_val.pth")
    assert read_labels(tmp_path / "unc_val.pth").boxes().tolist() == [[1, 2, 4, 6]]


def test_a_checkpoint_is_no_list_of_labels(tmp_path):
    path = tmp_path / "unc_best.pth"
    torch.save({"args": argparse.Namespace(a=1), "model": {"w": torch.ones(2)}}, path)
    with pytest.raises(InputError, match="holds a dict, not a list of labels; is it a checkpoint"):
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
        read(path)
    path.write_text("image,expression\n")
    with pytest.raises(InputError, match="damaged, or not a torch or pickle file"):
        read(path)
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "none.pth")


def test_plain_containers_come_back(tmp_path):
    value = {"a": [1, (2.5, None)], "b": {"c": True}, "d": {3}, "e": b"text"}
    path = tmp_path / "x.p"
    for protocol in range(6):
        path.write_bytes(pickle.dumps(value, protocol))
        assert read(path) == {**value, "d": [3], "e": "text"}


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_checkpoint_comes_back(tmp_path, form):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "turned": base.T,
        "part": base[1:, ::2],
        "half": base.to(torch.bfloat16),
        "none": torch.zeros(0, 2),
        "one": torch.tensor(7),
        "parameter": torch.nn.Parameter(base),
    }
    state = torch.nn.Linear(2, 3).state_dict()  # a dictionary that has attributes
    args = argparse.Namespace(lr=0.1, sizes=torch.Size([2, 3]), best=np.float64(0.5))
    path = tmp_path / "x.pth"
    torch.save(
        {"tensors": tensors, "state": state, "args": args},
        path,
        _use_new_zipfile_serialization=form == "zip",
    )

    def make(stored: StoredTensor) -> torch.Tensor:
        flat = torch.frombuffer(stored.data or bytearray(8), dtype=getattr(torch, stored.dtype))
        return flat.as_strided(stored.shape, stored.stride, stored.offset)

    found = read(path, tensor=make)
    torch.testing.assert_close(found["tensors"], {**tensors, "parameter": base})
    assert found["tensors"]["turned"].data_ptr() == found["tensors"]["parameter"].data_ptr()
    torch.testing.assert_close(found["state"], dict(state))
    assert found["args"] == {"lr": 0.1, "sizes": (2, 3), "best": 0.5}
    del tensors["half"]
    torch.save(tensors, path, _use_new_zipfile_serialization=form == "zip")
    assert read(path) == {name: tensor.tolist() for name, tensor in tensors.items()}
