"""Make the values that names in a pickle stand for: arrays, tensors, text, paths; no code runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np

from clipvg.runtime.pickle_machine import EMPTY, SCRIPTED, Call, Refused, checked_key

_MAX_PATH = 4096  # characters
_PATHS: dict[str, type[PurePath]] = {
    "PosixPath": PurePosixPath, "PurePosixPath": PurePosixPath,
    "WindowsPath": PureWindowsPath, "PureWindowsPath": PureWindowsPath,
}  # fmt: skip
_SCRIPTED_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist",
                   "restore_type_tag")  # fmt: skip
_SPARE_VALUES = 2**16  # that an empty or expanded tensor may have beyond those stored
DTYPES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip


class StoredTensor(NamedTuple):
    """A tensor as stored in a file; tensors of one storage share their `data`."""

    dtype: str  # such as "float32"
    data: bytearray  # of the storage, little-endian
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Storage:
    """The flat values of tensors; legacy files hold them after the pickle."""

    def __init__(self, dtype: str, data: bytes = b"") -> None:
        self.dtype = dtype
        self.itemsize = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
        self.data = bytearray(data)


def make(call: Call) -> Any:
    """Return the value that a call of a name stands for."""
    if call.args is None and call.name in _CONSTANTS:
        return _CONSTANTS[call.name]
    if call.args is None or call.name not in MAKERS:
        raise Refused(f"the name {call.name!r} where no value is")
    return MAKERS[call.name](call.state, *call.args)


def _make_dtype(state: Any, code: Any, *_: Any) -> np.dtype:
    if str(code)[:1] not in "fiubUS?" or len(str(code)) > 8:
        raise Refused(f"a NumPy array of type {code!r}")
    return np.dtype(str(code)).newbyteorder(">" if state and state[1] == ">" else "<")


def _flat(dtype: Any, data: Any) -> np.ndarray:
    if type(dtype) is not Call or dtype.name != "numpy.dtype" or dtype.args is None:
        raise Refused("a NumPy array without a type")
    data = make(data) if type(data) is Call else data
    return np.frombuffer(
        data.encode() if isinstance(data, str) else data, _make_dtype(dtype.state, *dtype.args)
    )


def _make_array(state: Any, *_: Any) -> Any:
    _, shape, dtype, is_fortran, data = state
    if isinstance(data, list):
        if shape == () and len(data) == 1:  # np.save of a dict
            return data[0]
        if shape != (len(data),):  # data are Python objects
            raise Refused("a NumPy array of objects")
        return data
    flat = _flat(dtype, data)
    if math.prod(max(size, 1) for size in shape) > len(flat) + _SPARE_VALUES:
        raise Refused(f"a NumPy array of shape {shape} in {len(flat)} values")
    return flat.reshape(shape, order="F" if is_fortran else "C").tolist()


def _make_tensor(_: Any, storage: Any, offset: int, shape: Any, stride: Any, *__: Any) -> Any:
    if not isinstance(storage, Storage):
        raise Refused("a tensor without storage")
    if not all(type(size) is int for size in (offset, *shape, *stride)):
        raise Refused("a tensor whose sizes are no numbers")
    count = len(storage.data) // storage.itemsize
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    is_inside = min((offset, *shape, *stride)) >= 0 and (0 in shape or last < count)
    if not is_inside or math.prod(max(size, 1) for size in shape) > count + _SPARE_VALUES:
        raise Refused(f"a tensor of shape {tuple(shape)} in {count} values")
    return StoredTensor(storage.dtype, storage.data, offset, tuple(shape), tuple(stride))


def _make_bytes(_: Any, text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "utf-8", "ascii"):
        raise Refused(f"text in encoding {encoding!r}")
    return text.encode(encoding)


def _path_maker(kind: type[PurePath]) -> Callable[..., str]:
    def make_path(_: Any, *parts: str) -> str:
        if sum(map(len, parts)) > _MAX_PATH:
            raise Refused("a path that is too long")
        return str(kind(*parts))

    return make_path


def to_list(tensor: StoredTensor) -> Any:
    """Return the values of a tensor as nested lists."""
    if tensor.dtype == "bfloat16":
        raise Refused("a tensor of bfloat16")
    values = np.frombuffer(tensor.data, np.dtype(tensor.dtype).newbyteorder("<"))
    index = np.full(tensor.shape, tensor.offset, dtype=np.int64)
    for axis, (length, step) in enumerate(zip(tensor.shape, tensor.stride, strict=True)):
        along = [1] * len(tensor.shape)
        along[axis] = length
        index += (np.arange(length) * step).reshape(along)
    return values[index].tolist()


MAKERS: dict[str, Callable[..., Any]] = {  # given the state, then the arguments of the call
    "argparse.Namespace": lambda state: state,
    "numpy.dtype": lambda state, *args: str(_make_dtype(state, *args)),
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
    "collections.OrderedDict": lambda _, pairs: {checked_key(key): item for key, item in pairs},
    "builtins.set": lambda _, items: items,
    "_codecs.encode": _make_bytes,
    "builtins.frozenset": lambda _, items=(): items,
    "builtins.complex": lambda _, *parts: list(parts),
    "collections.Counter": lambda _, counts=None: counts,
    "torch.device": lambda _, *parts: ":".join(map(str, parts)),
    **{f"pathlib.{name}": _path_maker(kind) for name, kind in _PATHS.items()},
    # TorchScript: a module becomes the dictionary of its attributes
    SCRIPTED: lambda state: state,
    **{f"torch.jit._pickle.{name}": lambda _, items, *__: items for name in _SCRIPTED_LISTS},
}
_CONSTANTS = {f"torch.{name}": name for name in (*set(DTYPES.values()), "complex64", "complex128")}
NAMES = {
    *MAKERS,
    *EMPTY,
    *_CONSTANTS,
    *(f"torch.{name}" for name in DTYPES),
    *(f"builtins.{name}" for name in ("list", "dict", "int", "float", "str")),
}
