"""A pickle interpreter without Python's pickle: for plain data only, and it calls nothing.

The opcodes below make numbers, text, lists, tuples and dictionaries. A name in a file, and a call
of it, are recorded as `Call`; the reader of the file decides what they mean.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Container
from typing import Any

_MAX_INTEGER = 1024  # bytes, or digits
_MAX_MARKS = 1000
_STOP = ord(".")
EMPTY = {  # containers that are made empty and filled later
    "collections.OrderedDict": dict, "collections.defaultdict": dict, "collections.deque": list,
}  # fmt: skip
SCRIPTED = "__torch__"  # stands for every class of TorchScript
_WIDTHS = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}
_UNSIGNED = {width: struct.Struct(form).unpack_from for width, form in _WIDTHS.items()}

_DOUBLE = struct.Struct(">d").unpack


class Refused(Exception):
    """The pickle asks for something that plain data does not need."""


class Call:
    """A name, the arguments it was called with (None: not called), and its state from BUILD."""

    __slots__ = ("args", "name", "state")

    def __init__(self, name: str, args: tuple[Any, ...] | None = None) -> None:
        self.name, self.args, self.state = name, args, None


class PickleMachine:
    """Interpreter of one pickle.

    Args:
        data: bytes that hold the pickle.
        at: where it begins; after `run`, where it ended.
        names: names that the file may use; any other is refused.
        storage: makes the object that a reference to data outside the pickle stands for.

    Attributes:
        shared: ids of the containers that the file uses more than once, or inside themselves.
    """

    def __init__(
        self,
        data: bytes,
        at: int = 0,
        names: Container[str] = (),
        storage: Callable[[Any], Any] | None = None,
    ) -> None:
        self.data, self.at, self.names, self.storage = data, at, names, storage
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.shared: set[int] = set()
        self.most = 10**6 + len(data) // 2  # limit on containers made, and on values remembered
        self.made = 0

    def run(self) -> Any:
        """Run the pickle and return its value.

        Raises:
            Refused: it asks for something other than plain data.
            IndexError, KeyError, ValueError, struct.error: it is damaged.
        """
        data, stack, memo, opcodes = self.data, self.stack, self.memo, _OPCODES
        while (opcode := data[self.at]) != _STOP:
            self.at += 1
            if opcode == 0x71:  # the most frequent ones first: BINPUT, LONG_BINPUT, BINGET
                memo[data[self.at]] = stack[-1]
                self.at += 1
            elif opcode == 0x72:
                memo[_UNSIGNED[4](data, self.at)[0]] = stack[-1]
                self.at += 4
            elif opcode == 0x68:
                self.recall(data[self.at])
                self.at += 1
            elif opcode == 0x58:  # BINUNICODE
                begin = self.at + 4
                self.at = begin + _UNSIGNED[4](data, self.at)[0]
                if self.at > len(data):
                    raise ValueError("it ends too early")
                stack.append(data[begin : self.at].decode("utf-8", "surrogatepass"))
            elif opcode in opcodes:
                opcodes[opcode](self)
            else:
                raise ValueError(f"instruction {opcode:#04x} at byte {self.at - 1}")
        self.at += 1
        return stack[-1]

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        end = self.at + count
        if end > len(self.data):
            raise ValueError("it ends too early")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def number(self, width: int) -> int:
        """Return the next unsigned integer, of ``width`` bytes."""
        number: int = _UNSIGNED[width](self.data, self.at)[0]
        self.at += width
        return number

    def line(self) -> bytes:
        """Return the text up to the end of the line."""
        end = self.data.index(b"\n", self.at)
        taken = self.data[self.at : end]
        self.at = end + 1
        return taken

    def remember(self, key: int) -> None:
        """Store the value on top of the stack in the memo."""
        if len(self.memo) > self.most:
            raise Refused("more references than its size explains")
        self.memo[key] = self.stack[-1]

    def recall(self, key: int) -> None:
        """Push a value from the memo."""
        value = self.memo[key]
        if type(value) is not str:
            self.shared.add(id(value))
        self.stack.append(value)

    def mark(self) -> None:
        """Mark where a container begins."""
        if len(self.marks) > _MAX_MARKS:
            raise Refused("data nested too deeply")
        self.marks.append(len(self.stack))

    def items(self) -> list[Any]:
        """Take everything above the last mark off the stack."""
        first = self.marks.pop()
        taken = self.stack[first:]
        del self.stack[first:]
        return taken

    def make(self, container: Any) -> None:
        """Push a new container, of which a file may hold a limited number."""
        self.made += 1
        if self.made > self.most:
            raise Refused("more lists than its size explains")
        self.stack.append(container)

    def pack(self, count: int) -> None:
        """Replace the last ``count`` values by a tuple of them."""
        if len(self.stack) < count:
            raise ValueError("a tuple without values")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.make(items)

    def fill(self, items: list[Any]) -> None:
        """Add items to the list on top of the stack."""
        below = self.stack[-1]
        if type(below) is not list:
            raise Refused("an instruction to change what is no list")
        below.extend(items)

    def store(self, items: list[Any]) -> None:
        """Set keys and values in the dictionary on top of the stack."""
        below = self.stack[-1]
        if type(below) is not dict:
            raise Refused("an instruction to change what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            below[checked_key(key)] = value

    def name(self, module: Any, name: Any) -> None:
        """Push a name as an uncalled `Call`, if it is allowed."""
        if not (type(module) is str and type(name) is str):
            raise Refused("a name that is no text")
        full = f"{module}.{name}".replace("__builtin__.", "builtins.")
        full = full.replace("numpy._core.", "numpy.core.").replace("pathlib._local.", "pathlib.")
        if full.startswith(SCRIPTED + "."):
            full = SCRIPTED
        if full not in self.names:
            raise Refused(f"the name {module + '.' + name!r}, which could run code")
        self.make(Call(full))

    def call(self) -> None:
        """Replace a name and its arguments on the stack by a call."""
        args, name = self.stack.pop(), self.stack.pop()
        if type(name) is not Call or name.args is not None or type(args) is not tuple:
            raise Refused("a call of what is no name")
        empty = EMPTY.get(name.name)
        if empty is None or (args and name.name == "collections.OrderedDict"):  # made from pairs
            self.make(Call(name.name, args))
        else:
            self.make(empty())

    def build(self) -> None:
        """Give the call on the stack its state; what torch gives its dictionaries is ignored."""
        state, below = self.stack.pop(), self.stack[-1]
        if type(below) is Call and below.args is not None and below.state is None:
            below.state = state
        elif type(below) is not dict:
            raise Refused("an instruction to change the reader")

    def outside(self) -> None:
        """Replace a reference to data outside the pickle by the object it stands for."""
        if self.storage is None:
            raise Refused("a reference to data outside the file")
        self.stack.append(self.storage(self.stack.pop()))


def checked_key(key: Any) -> Any:
    """Return a dictionary key if it is a number, text or a tuple of them, which can be hashed."""
    parts = key if type(key) is tuple else (key,)
    if any(type(part) not in (str, int, float, bool, bytes, type(None)) for part in parts):
        raise Refused(f"a {type(parts[0]).__name__} as the key of a dictionary")
    return key


def _integer(raw: bytes) -> int:
    if len(raw) > _MAX_INTEGER:
        raise Refused(f"a whole number of {len(raw):,} bytes")
    return int.from_bytes(raw, "little", signed=True)


def _written_integer(line: bytes) -> Any:
    if line in (b"00", b"01"):
        return line == b"01"
    if len(line) > _MAX_INTEGER:
        raise Refused(f"a whole number of {len(line):,} digits")
    return int(line.removesuffix(b"L"))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _old_text(raw: bytes) -> str | bytes:
    """Return a string of Python 2, whose encoding is unknown: as bytes if it is not ASCII."""
    return raw.decode("ascii") if raw.isascii() else raw


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return {checked_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


Opcode = Callable[[PickleMachine], object]
_OPCODES: dict[int, Opcode] = {
    ord(code): opcode
    for code, opcode in {
        "\x80": lambda m: m.take(1),  # PROTO
        "\x95": lambda m: m.take(8),  # FRAME
        "(": lambda m: m.mark(),
        "0": lambda m: m.stack.pop(),
        "1": lambda m: m.items(),
        "N": lambda m: m.stack.append(None),
        "\x88": lambda m: m.stack.append(True),
        "\x89": lambda m: m.stack.append(False),
        "I": lambda m: m.stack.append(_written_integer(m.line())),
        "L": lambda m: m.stack.append(_written_integer(m.line())),
        "J": lambda m: m.stack.append(_integer(m.take(4))),
        "K": lambda m: m.stack.append(m.number(1)),
        "M": lambda m: m.stack.append(m.number(2)),
        "\x8a": lambda m: m.stack.append(_integer(m.take(m.number(1)))),
        "\x8b": lambda m: m.stack.append(_integer(m.take(m.number(4)))),
        "F": lambda m: m.stack.append(float(m.line())),
        "G": lambda m: m.stack.append(_DOUBLE(m.take(8))[0]),
        "S": lambda m: m.stack.append(_old_text(codecs.escape_decode(m.line()[1:-1])[0])),
        "T": lambda m: m.stack.append(_old_text(m.take(m.number(4)))),
        "U": lambda m: m.stack.append(_old_text(m.take(m.number(1)))),
        "V": lambda m: m.stack.append(m.line().decode("raw-unicode-escape")),
        "\x8c": lambda m: m.stack.append(_text(m.take(m.number(1)))),
        "\x8d": lambda m: m.stack.append(_text(m.take(m.number(8)))),
        "B": lambda m: m.stack.append(m.take(m.number(4))),
        "C": lambda m: m.stack.append(m.take(m.number(1))),
        "\x8e": lambda m: m.stack.append(m.take(m.number(8))),
        "\x96": lambda m: m.stack.append(m.take(m.number(8))),
        "]": lambda m: m.make([]),
        "\x8f": lambda m: m.make([]),  # a set
        "l": lambda m: m.make(m.items()),
        "\x91": lambda m: m.make(m.items()),  # a frozen set
        "a": lambda m: m.fill([m.stack.pop()]),
        "e": lambda m: m.fill(m.items()),
        "\x90": lambda m: m.fill(m.items()),
        ")": lambda m: m.make(()),
        "t": lambda m: m.make(tuple(m.items())),
        "\x85": lambda m: m.pack(1),
        "\x86": lambda m: m.pack(2),
        "\x87": lambda m: m.pack(3),
        "}": lambda m: m.make({}),
        "d": lambda m: m.make(_pairs(m.items())),
        "s": lambda m: m.store([m.stack.pop(), m.stack.pop()][::-1]),
        "u": lambda m: m.store(m.items()),
        "c": lambda m: m.name(_text(m.line()), _text(m.line())),
        "\x93": lambda m: m.name(*[m.stack.pop(), m.stack.pop()][::-1]),
        "R": lambda m: m.call(),
        "\x81": lambda m: m.call(),
        "b": lambda m: m.build(),
        "Q": lambda m: m.outside(),
        "p": lambda m: m.remember(_written_integer(m.line())),
        "g": lambda m: m.recall(_written_integer(m.line())),
        "j": lambda m: m.recall(m.number(4)),
        "\x94": lambda m: m.remember(len(m.memo)),
    }.items()
}
