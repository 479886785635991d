"""Plain data, arrays and tensors out of pickles and torch files, without running what they hold.

A name in a file stands for an entry of `_MAKERS`, or ends the reading. What a file calls is only
written down; functions of this module make the values when the file has been read.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from clipvg.errors import InputError, one_line

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_DEPTH = 50
_DTYPES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip


class StoredTensor(NamedTuple):
    """A tensor as it lies in a file; tensors of one storage share their `data`."""

    dtype: str  # "float32"
    data: bytearray  # of the storage, little-endian
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_pickle(
    path: str | Path, expected: str, tensor: Callable[[StoredTensor], Any] | None = None
) -> Any:
    """Return what a pickle, a ``.npy`` of objects or a file of ``torch.save`` holds, as plain data.

    Args:
        path: the file.
        expected: what it should hold, for the error.
        tensor: makes the value of a tensor; nested lists when None.

    Returns:
        Nested lists, tuples, dicts, text, numbers and None. NumPy arrays become nested lists,
        namespaces dicts.

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
            _skip_npy_header(file)
            return _plain(read(file), tensor or _to_list)
    except _Refused as refusal:
        raise InputError(
            f"{path}: holds {refusal}, which could run code; nothing was run. Expected {expected}"
        ) from None
    except InputError:
        raise
    except Exception as error:  # a damaged pickle can raise almost anything
        raise InputError(
            f"{path}: damaged, or not a torch or pickle file ({one_line(error, 120)})"
        ) from None


class _Refused(pickle.UnpicklingError):
    """Something that plain data does not need."""


class _Name:
    """What a name in a file stands for; the file can call it, and change nothing of it."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def __call__(self, *args: Any) -> Any:
        return _Dict() if self.make is dict else _Call(self.make, args)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("an instruction to change the reader")


class _Call:
    """A call that a file asks for, and the state that it gives the result."""

    __slots__ = ("args", "make", "state")

    def __init__(self, make: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.make = make
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Namespace:
    __slots__ = ("values",)

    def __setstate__(self, state: Any) -> None:
        self.values = state


class _Dict(dict[Any, Any]):
    def __setstate__(self, state: Any) -> None:
        """Drop the versions that torch keeps with the parameters of a model."""


class _Storage:
    """The flat values of tensors; legacy files hold them after the pickle."""

    def __init__(self, dtype: str, data: bytes = b"") -> None:
        self.dtype = dtype
        self.data = bytearray(data)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("an instruction to change a tensor")


def _make_dtype(state: Any, code: Any, *_: Any) -> np.dtype:
    if str(code)[:1] not in "fiubUS?" or len(str(code)) > 8:
        raise _Refused(f"a NumPy array of type {code!r}")
    return np.dtype(str(code)).newbyteorder(">" if state and state[1] == ">" else "<")


def _flat(dtype: Any, data: Any) -> np.ndarray:
    if not (isinstance(dtype, _Call) and dtype.make is _make_dtype):
        raise _Refused("a NumPy array without a type")
    if isinstance(data, _Call) and data.make is _make_bytes:
        data = _make_bytes(None, *data.args)
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, _make_dtype(dtype.state, *dtype.args))


def _make_array(state: Any, *_: Any) -> Any:
    _, shape, dtype, is_fortran, data = state
    if not isinstance(data, list):
        return _flat(dtype, data).reshape(shape, order="F" if is_fortran else "C").tolist()
    if shape == () and len(data) == 1:  # np.save of a dict
        return data[0]
    if shape != (len(data),):  # data are Python objects
        raise _Refused("a NumPy array of objects")
    return data


def _make_tensor(_: Any, storage: Any, offset: int, shape: Any, stride: Any, *__: Any) -> Any:
    if not isinstance(storage, _Storage):
        raise _Refused("a tensor without storage")
    return StoredTensor(storage.dtype, storage.data, int(offset), tuple(shape), tuple(stride))


def _make_bytes(_: Any, text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "utf-8", "ascii"):
        raise _Refused(f"text in encoding {encoding!r}")
    return text.encode(encoding)


_MAKERS: dict[str, Callable[..., Any]] = {  # given the state, then the arguments of the call
    "numpy.dtype": _make_dtype,
    "numpy.ndarray": _make_array,
    "numpy.core.multiarray._reconstruct": _make_array,
    "numpy.core.multiarray.scalar": lambda _, dtype, data=b"": _flat(dtype, data)[0].item(),
    "numpy.core.numeric._frombuffer": lambda _, data, dtype, shape, order="C": _make_array(
        (1, shape, dtype, order == "F", data)
    ),
    "torch._utils._rebuild_tensor": _make_tensor,
    "torch._utils._rebuild_tensor_v2": _make_tensor,
    "torch._utils._rebuild_parameter": lambda _, tensor, *__: tensor,
    "torch.Size": lambda _, sizes: tuple(sizes),
    "collections.OrderedDict": dict,
    "builtins.set": lambda _, items: set(items),
    "_codecs.encode": _make_bytes,
}


class _PlainUnpickler(pickle.Unpickler):
    def __init__(
        self, file: BinaryIO, storage: Callable[[str, str], _Storage] | None = None
    ) -> None:
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if full == "argparse.Namespace":
            return _Namespace  # pickles of objects want a class
        known = full.replace("__builtin__.", "builtins.").replace("numpy._core.", "numpy.core.")
        if known not in _MAKERS:
            raise _Refused(f"the name {full!r}")
        return _Name(_MAKERS[known])

    def persistent_load(self, pid: Any) -> Any:
        if self._storage is None or not isinstance(pid, tuple) or pid[:1] != ("storage",):
            raise _Refused("a reference to data outside the file")
        return self._storage(str(pid[1]), str(pid[2]))


def _skip_npy_header(file: BinaryIO) -> None:
    """Go to the pickle of a file of ``np.save``; stay where the file is another."""
    is_npy = file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX
    file.seek(0)
    if is_npy:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else (np.lib.format.read_array_header_2_0)
        )
        if not read(file)[2].hasobject:
            raise _Refused("numbers alone")


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if not pickles:
            raise InputError(f"{file.name}: a zip archive, but not one of torch.save")
        root = pickles[0].removesuffix("data.pkl")
        storages: dict[str, _Storage] = {}

        def storage(dtype: str, key: str) -> _Storage:
            if key not in storages:
                storages[key] = _Storage(dtype, archive.read(f"{root}data/{key}"))
            return storages[key]

        return _PlainUnpickler(io.BytesIO(archive.read(pickles[0])), storage).load()


def _read_stream(file: BinaryIO) -> Any:
    """Read a plain pickle, or torch's legacy format: five pickles, then the storages."""
    storages: dict[str, _Storage] = {}
    first = _PlainUnpickler(file).load()
    if first != _LEGACY_MAGIC:
        return first
    for _ in range(2):  # protocol version, system information
        _PlainUnpickler(file).load()
    value = _PlainUnpickler(file, lambda d, key: storages.setdefault(key, _Storage(d))).load()
    for key in _PlainUnpickler(file).load():
        storage, count = storages[str(key)], int.from_bytes(file.read(8), "little")
        size = 2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize
        storage.data += file.read(count * size)
    return value


def _plain(value: Any, tensor: Callable[[StoredTensor], Any], depth: int = 0) -> Any:
    if depth > _MAX_DEPTH:
        raise _Refused("data nested too deeply")
    if isinstance(value, _Call):
        return _plain(value.make(value.state, *value.args), tensor, depth + 1)
    if isinstance(value, StoredTensor):
        return tensor(value)
    if isinstance(value, _Namespace):
        value = value.values
    if isinstance(value, list):
        return [_plain(item, tensor, depth + 1) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain(item, tensor, depth + 1) for item in value)
    if isinstance(value, dict):
        items = value.items()
        return {_plain(k, tensor, depth + 1): _plain(v, tensor, depth + 1) for k, v in items}
    if isinstance(value, set):
        return sorted((_plain(item, tensor, depth + 1) for item in value), key=str)
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise _Refused(f"a {type(value).__name__.lstrip('_')}")


def _to_list(tensor: StoredTensor) -> Any:
    values = np.frombuffer(tensor.data, np.dtype(tensor.dtype).newbyteorder("<"))
    index = np.full(tensor.shape, tensor.offset, dtype=np.int64)
    for axis, (length, step) in enumerate(zip(tensor.shape, tensor.stride, strict=True)):
        along = [1] * len(tensor.shape)
        along[axis] = length
        index += (np.arange(length) * step).reshape(along)
    return values[index].tolist()
