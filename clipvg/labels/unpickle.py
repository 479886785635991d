"""Plain data out of pickles and torch files, without running what they hold.

Only containers, numbers, text, NumPy arrays and torch tensors come back, the last two as nested
lists. NumPy and torch names are answered by inert stand-ins here, so no code of theirs runs either,
and any other name ends the reading with an error.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from clipvg.errors import InputError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip
_MAX_DEPTH = 50


def load_plain(path: str | Path) -> Any:
    """The object in a pickle, or in a file of ``torch.save`` (zip or legacy), as plain data.

    Args:
        path: the file.

    Returns:
        Nested lists, tuples, dicts, text, numbers and None.

    Raises:
        InputError: missing, empty or damaged, or it holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    try:
        with path.open("rb") as file:
            read = _read_zip if zipfile.is_zipfile(file) else _read_stream
            file.seek(0)
            return _plain(read(file))
    except _Refused as refusal:
        raise InputError(
            f"{path}: holds {refusal}, which is not label data; nothing was run. Use only files "
            "that hold lists of labels"
        ) from None
    except InputError:
        raise
    except Exception as error:  # a damaged pickle can raise almost anything
        detail = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path}: damaged, or not a torch or pickle file ({detail})") from None


class _Refused(pickle.UnpicklingError):
    """A name that plain data does not need."""


class _Storage:
    """The flat values of tensors; legacy files hold them after the pickle."""

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype).newbyteorder("<") if dtype != "?" else np.dtype("?")
        self.values: np.ndarray = np.zeros(0, self.dtype)

    def fill(self, data: bytes) -> None:
        self.values = np.frombuffer(data, self.dtype)


class _Tensor:
    def __init__(self, storage: Any, offset: int, shape: tuple, stride: tuple, *_: Any) -> None:
        if not isinstance(storage, _Storage):
            raise _Refused("a tensor without storage")
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride

    def tolist(self) -> Any:
        values, shape = self.storage.values, tuple(int(n) for n in self.shape)
        index = np.full(shape, self.offset, dtype=np.int64)
        for axis, (length, step) in enumerate(zip(shape, self.stride, strict=True)):
            view = [1] * len(shape)
            view[axis] = length
            index += (np.arange(length) * step).reshape(view)
        return values[index].tolist()


class _DType:
    """A stand-in of numpy.dtype; numbers and text only."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = str(code), "<"

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">", "="):
            self.order = "<" if state[1] == "=" else state[1]

    def resolve(self) -> np.dtype:
        if self.code[:1] not in "fiubUS?" or len(self.code) > 8:
            raise _Refused(f"a NumPy array of type {self.code!r}")
        dtype = np.dtype(self.code)
        return dtype.newbyteorder(">") if self.order == ">" else dtype.newbyteorder("<")


class _Array:
    """A stand-in of numpy.ndarray; its state is kept and interpreted at the end."""

    shape: tuple = ()
    dtype: Any = None
    fortran: bool = False
    data: Any = b""

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.dtype, self.fortran, self.data = state

    def tolist(self) -> Any:
        if isinstance(self.data, list):  # an array of Python objects
            shape = [int(n) for n in self.shape]
            if len(shape) == 1 and shape[0] == len(self.data):
                return list(self.data)
            raise _Refused("a NumPy array of objects")
        values = np.frombuffer(bytes(self.data), _dtype(self.dtype))
        return values.reshape(self.shape, order="F" if self.fortran else "C").tolist()


def _dtype(value: Any) -> np.dtype:
    if not isinstance(value, _DType):
        raise _Refused("a NumPy array without a type")
    return value.resolve()


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(buffer: Any, dtype: Any, shape: tuple, order: str = "C") -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", bytes(buffer)))
    return array


def _scalar(dtype: Any, data: Any = b"") -> Any:
    if isinstance(data, str):
        data = data.encode("latin1")
    return np.frombuffer(bytes(data), _dtype(dtype))[0].item()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Protocol 2 writes bytes as text and this call."""
    if encoding not in ("latin1", "utf-8", "ascii"):
        raise _Refused(f"text in encoding {encoding!r}")
    return text.encode(encoding)


_NUMPY: dict[str, Any] = {
    "numpy.dtype": _DType,
    "numpy.ndarray": _Array,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
}
_NAMES: dict[str, Any] = {
    **_NUMPY,
    **{name.replace("numpy.core.", "numpy._core."): value for name, value in _NUMPY.items()},
    "_codecs.encode": _encode,
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor": _Tensor,
    "torch._utils._rebuild_tensor_v2": _Tensor,
    **{
        f"{module}.{name}": value
        for module in ("builtins", "__builtin__")
        for name, value in (("list", list), ("dict", dict), ("tuple", tuple), ("set", set))
    },
}


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, storage: Callable[[str, str], _Storage] | None) -> None:
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        full = f"{module}.{name}"
        if full not in _NAMES:
            raise _Refused(f"the name {full!r}")
        # A wrapper of its own, so that a file that sets attributes of it changes nothing here.
        return partial(_NAMES[full])

    def persistent_load(self, pid: Any) -> Any:
        if (
            self._storage is None
            or not isinstance(pid, tuple)
            or len(pid) < 3
            or pid[0] != "storage"
        ):
            raise _Refused("a reference to data outside the file")
        return self._storage(str(pid[1]), str(pid[2]))


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if not pickles:
            raise InputError(f"{file.name}: a zip archive, but not one of torch.save")
        root = pickles[0].removesuffix("data.pkl")

        def storage(dtype: str, key: str) -> _Storage:
            values = _Storage(dtype)
            values.fill(archive.read(f"{root}data/{key}"))
            return values

        return _PlainUnpickler(io.BytesIO(archive.read(pickles[0])), storage).load()


def _read_stream(file: BinaryIO) -> Any:
    """A plain pickle, or torch's legacy format: five pickles, then the storages."""
    storages: dict[str, _Storage] = {}

    def storage(dtype: str, key: str) -> _Storage:
        return storages.setdefault(key, _Storage(dtype))

    first = _PlainUnpickler(file, None).load()
    if first != _LEGACY_MAGIC:
        return first
    for _ in range(2):  # protocol version, system information
        _PlainUnpickler(file, None).load()
    value = _PlainUnpickler(file, storage).load()
    for key in _PlainUnpickler(file, None).load():
        count = int.from_bytes(file.read(8), "little")
        values = storages[str(key)]
        values.fill(file.read(count * values.dtype.itemsize))
    return value


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > _MAX_DEPTH:
        raise _Refused("data nested too deeply")
    if isinstance(value, _Array | _Tensor):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, set):
        return sorted((_plain(item, depth + 1) for item in value), key=str)
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise _Refused(f"a {type(value).__name__.lstrip('_')}")


def _key(key: Any) -> Any:
    return key.decode("utf-8") if isinstance(key, bytes) else key
