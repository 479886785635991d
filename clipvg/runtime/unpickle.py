"""Read plain data, arrays and tensors from pickles and torch files without running their code.

Names in a file must be in `pickle_values.NAMES`, or reading fails. The result is limited in
proportion to the size of the file: shared parts count each time, arrays and tensors by the bytes
behind them.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.lib import format as npy

from clipvg.errors import InputError, one_line
from clipvg.runtime.gate import check_file
from clipvg.runtime.pickle_machine import Call, PickleMachine, Refused
from clipvg.runtime.pickle_values import DTYPES, NAMES, Storage, StoredTensor, make, to_list

_PROTOCOL = b"\x80"  # how a binary pickle begins
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_DEPTH = 50
_NUMBERS = frozenset((int, float, bool, type(None)))
_TOO_MUCH = "more data than its size explains"
_SPARE_BYTES = 2**28  # by which a compressed file's content may exceed four times its size


def read_pickle(
    path: str | Path, expected: str, tensor: Callable[[StoredTensor], Any] | None = None
) -> Any:
    """Read a pickle, a ``.npy`` of objects or a file of ``torch.save`` as plain data.

    Returns:
        Nested lists, tuples, dicts, text, numbers and None. NumPy arrays become nested lists,
        sets lists, namespaces dicts, paths text, and tensors what ``tensor`` makes of them.

    Raises:
        InputError: the file is missing, empty or damaged, or holds anything else.
    """
    path = check_file(path)
    try:
        machine = _read(path)
        size = max(path.stat().st_size, len(machine.data))
        result = _Plain(machine, size, tensor or to_list)
        return result.plain(machine.stack[-1])
    except Refused as refusal:
        raise InputError(f"{path}: holds {refusal}; nothing was run. Expected {expected}") from None
    except InputError:
        raise
    except Exception as error:  # a damaged pickle can raise almost anything
        why = f" ({one_line(error, 120)})" if isinstance(error, ValueError) else ""
        raise InputError(
            f"{path}: damaged, or not a torch or pickle file{why}; if it was copied or stored as "
            "text, fetch it again in binary mode"
        ) from None


def _read(path: Path) -> PickleMachine:
    is_zip = zipfile.is_zipfile(path)
    data = b"" if is_zip else path.read_bytes()
    if not is_zip and not data.startswith(_PROTOCOL) and (restored := _before_transfer(data)):
        with suppress(Exception):  # all text: with changed line ends it can be read, but wrongly
            return _read_any(restored, path)
    try:
        return _read_zip(path, path) if is_zip else _read_stream(data)
    except Exception:
        if restored := _before_transfer(data or path.read_bytes()):
            with suppress(Exception):
                return _read_any(restored, path)
        raise


def _before_transfer(data: bytes) -> bytes | None:
    """Undo the damage to a file that was copied or stored as text; None if there is none.

    Either each line end or each byte from 128 on has become two bytes; both can be undone.
    """
    if data.startswith((_PROTOCOL.decode("latin-1").encode(), b"PK")):
        with suppress(UnicodeError):
            return data.decode("utf-8").encode("latin-1")
    pairs = data.count(b"\r\n")
    return data.replace(b"\r\n", b"\n") if pairs and pairs == data.count(b"\n") else None


def _read_any(data: bytes, path: Path) -> PickleMachine:
    file = io.BytesIO(data)
    return _read_zip(file, path) if zipfile.is_zipfile(file) else _read_stream(data)


def _read_zip(file: Path | io.BytesIO, path: Path) -> PickleMachine:
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if not pickles:
            raise InputError(f"{path}: a zip archive, but not one of torch.save")
        room = _SPARE_BYTES + 4 * path.stat().st_size

        def take(name: str) -> bytes:
            nonlocal room
            entry = archive.getinfo(name)
            room -= entry.file_size
            if room < 0:
                raise Refused(f"{entry.file_size:,} bytes or more in a smaller file")
            return archive.read(entry)

        root = pickles[0].removesuffix("data.pkl")
        storages: dict[str, Storage] = {}

        def storage(reference: Any) -> Storage:
            dtype, key = _reference(reference)
            if key not in storages:
                storages[key] = Storage(dtype, take(f"{root}data/{key}"))
            return storages[key]

        machine = PickleMachine(take(pickles[0]), names=NAMES, storage=storage)
        machine.run()
        return machine


def _read_stream(data: bytes) -> PickleMachine:
    """Read a plain pickle, or torch's legacy format: five pickles, then the storages."""
    storages: dict[str, Storage] = {}

    def storage(reference: Any) -> Storage:
        dtype, key = _reference(reference)
        return storages.setdefault(key, Storage(dtype))

    machine = PickleMachine(data, _npy_header(data), NAMES)
    magic = machine.run()
    if type(magic) is not int or magic != _LEGACY_MAGIC:
        return machine
    for _ in range(2):  # protocol version, system information
        machine = PickleMachine(data, machine.at)
        machine.run()
    result = PickleMachine(data, machine.at, NAMES, storage)
    result.run()
    rest = PickleMachine(data, result.at)
    for key in rest.run():
        own = storages[key]
        own.data += rest.take(rest.number(8) * own.itemsize)
    return result


def _decoded(raw: bytes) -> str:
    """Decode text of unknown encoding, as from Python 2: UTF-8, else Latin-1."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _reference(reference: Any) -> tuple[str, str]:
    """Return the dtype and key of the storage that a pickle refers to."""
    if type(reference) is not tuple or len(reference) < 3 or reference[0] != "storage":
        raise Refused("a reference to data outside the file")
    _, kind, key, *_ = reference
    name = kind.name.removeprefix("torch.") if type(kind) is Call else ""
    if name not in DTYPES or type(key) is not str:
        raise Refused("a reference to data that are no tensor")
    return DTYPES[name], key


def _npy_header(data: bytes) -> int:
    """Return where the pickle in a file of ``np.save`` begins; 0 for other files."""
    if not data.startswith(npy.MAGIC_PREFIX):
        return 0
    file = io.BytesIO(data[: 2**16])
    is_first = npy.read_magic(file) == (1, 0)
    read = npy.read_array_header_1_0 if is_first else npy.read_array_header_2_0
    if not read(file)[2].hasobject:
        raise Refused("numbers alone")
    return file.tell()


class _Plain:
    """Converts a machine's result to plain data, limited in proportion to the file's size."""

    def __init__(
        self, machine: PickleMachine, file_size: int, tensor: Callable[[StoredTensor], Any]
    ) -> None:
        self.machine = machine  # its memo keeps shared objects alive, and so their ids valid
        self.tensor = tensor
        self.limit = 2**26 + 64 * file_size
        self.weight = 0  # characters and values, shared ones as often as they are used
        self.deepest = 0
        self.opened: dict[int, tuple[Any, int, int] | None] = {}

    def plain(self, item: Any, depth: int = 0) -> Any:
        """Return a value as plain data."""
        kind = type(item)
        if kind is str or kind is bytes:
            self.weight += len(item)
            if self.weight > self.limit:
                raise Refused(_TOO_MUCH)
            return item if kind is str else _decoded(item)
        if kind is int or kind is float or kind is bool or item is None:
            self.weight += 1
            return item
        if id(item) in self.machine.shared:
            return self._open_once(item, depth)
        return self._open(item, depth)

    def _open(self, item: Any, depth: int) -> Any:
        self._add(1, depth)
        kind = type(item)
        if (kind is list or kind is tuple) and _NUMBERS.issuperset(map(type, item)):
            self.weight += len(item)
            return item
        if kind is list:
            return [self.plain(part, depth + 1) for part in item]
        if kind is tuple:
            return tuple([self.plain(part, depth + 1) for part in item])
        if kind is dict:
            inner = depth + 1
            return {self.plain(k, inner): self.plain(v, inner) for k, v in item.items()}
        if kind is StoredTensor:
            self._add(math.prod(item.shape), depth)
            return self.tensor(item)
        if kind is Call:
            return self.plain(make(item), depth + 1)
        raise Refused(f"a {kind.__name__.lstrip('_')}")

    def _open_once(self, item: Any, depth: int) -> Any:
        """Convert what a file uses several times only once; after that, only count it."""
        if id(item) in self.opened:
            found = self.opened[id(item)]
            if found is None:
                raise Refused("data that hold themselves")
            value, weight, height = found
            self._add(weight, depth + height)
            return value
        self.opened[id(item)] = None
        weight, deepest, self.deepest = self.weight, self.deepest, depth
        value = self._open(item, depth)
        self.opened[id(item)] = value, self.weight - weight, self.deepest - depth
        self.deepest = max(self.deepest, deepest)
        return value

    def _add(self, weight: int, depth: int) -> None:
        self.weight += weight
        if self.weight > self.limit:
            raise Refused(_TOO_MUCH)
        self.deepest = max(self.deepest, depth)
        if depth > _MAX_DEPTH:
            raise Refused("data nested too deeply")
