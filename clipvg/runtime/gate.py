"""Check untrusted files before opening them: a regular file of a reasonable size.

Readers open files with these functions, and read inside `reading`; docs/security.md describes what
is guaranteed.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from xml.etree import ElementTree

from clipvg.errors import InputError, one_line

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_BYTES = 2**35  # 32 GiB: no label file of 10^7 rows comes near
MAX_CONFIG_BYTES = 2**22
MAX_CONFIG_VALUES = 10**5  # in a YAML file or a configuration, counting each use of an alias
_MAX_BYTES_VARIABLE = "CLIPVG_MAX_BYTES"
_GZIP = b"\x1f\x8b"
_MOST_INFLATED = 50  # times its size; label files are compressed to a tenth or a twentieth
_SPARE_BYTES = 2**24  # that a packed file may hold in addition; text is ten times larger as objects
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16, so it comes first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ADDRESS = re.compile(r"([a-z][a-z0-9+]+):/+")  # Windows drives have one letter


def check_local(path: str | Path) -> Path:
    """Return a path, which must be on this machine's file systems.

    Raises:
        InputError: the path is a URL such as s3://bucket/file, which would become a folder "s3:",
            or "", which would become the working folder.
    """
    if path == "":
        raise InputError("a path is empty")
    if found := _ADDRESS.match(str(path)):  # a Path keeps only one of the two slashes
        place = f"{found[1]}://{str(path)[found.end() :]}"
        raise InputError(f"{place}: only files on this machine are read and written; copy it")
    return Path(path)


def check_file(path: str | Path, most: int | None = None) -> Path:
    """Return a path after checking that it is a file that may be opened.

    Args:
        path: file to open.
        most: largest size in bytes; None uses the environment's CLIPVG_MAX_BYTES, or `MAX_BYTES`.

    Raises:
        InputError: the file does not exist, is a folder, pipe or device, is empty, or is too large.
    """
    path = check_local(path)
    try:
        facts = path.stat()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a null character, or a lone surrogate
        raise InputError(f"{path}: cannot be opened ({one_line(error, 80)})") from None
    if not stat.S_ISREG(facts.st_mode):
        kind = "a folder; name the file in it" if path.is_dir() else "no file, but a pipe or device"
        raise InputError(f"{path}: {kind}")
    if facts.st_size == 0:
        raise InputError(f"{path}: the file is empty")
    if facts.st_size > (limit := most or _most_bytes()):
        hint = "is it a configuration?" if most else f"raise {_MAX_BYTES_VARIABLE} if you trust it"
        raise InputError(f"{path}: {facts.st_size:,} bytes, more than {limit:,}; {hint}")
    return path


def check_content(path: str | Path) -> Path:
    """Return a path after checking that it is not what a failed download leaves in its place.

    Raises:
        InputError: the file may not be opened (see `check_file`), or is a web page or a Git LFS
            pointer.
    """
    path = check_file(path)
    with reading(path, "a file"), path.open("rb") as file:
        head = file.read(200).lstrip(codecs.BOM_UTF8 + b" \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        raise InputError(f"{path}: a web page, as some servers send in place of a file; download "
                         "the file itself")  # fmt: skip
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: a pointer of Git LFS, not the file; run git lfs pull")
    return path


@contextmanager
def reading(path: str | Path, expected: str) -> Iterator[None]:
    """Turn whatever a parser raises because of a file's content into a one-line InputError.

    Raises:
        InputError: the block raised an error that content can cause.
    """
    try:
        yield
    except (InputError, ImportError):
        raise
    except UnicodeDecodeError as error:
        byte = error.object[error.start : error.start + 1].hex()
        raise InputError(
            f"{path}: not UTF-8 (byte 0x{byte}); save it as UTF-8, or convert it from the encoding "
            "it has, such as Latin-1: iconv -f latin1 -t utf-8 FILE"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise InputError(f"{path}: more than the memory holds; expected {expected}") from error
    except Exception as error:  # parsers raise almost anything; CLIPVG_DEBUG=1 shows it
        raise InputError(f"{path}: damaged, or not {expected} ({one_line(error, 120)})") from error


@contextmanager
def open_bytes(path: str | Path) -> Iterator[io.BufferedReader]:
    """Open a file, unpacked if it is packed with gzip; read within `reading`."""
    checked = check_file(path)
    with checked.open("rb") as raw:
        if not raw.peek(2).startswith(_GZIP):
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as inflated:
            most = most_inflated(checked, _MOST_INFLATED, _SPARE_BYTES)
            yield io.BufferedReader(_Bounded(inflated, most, checked), 2**17)


def most_inflated(path: Path, times: int, spare: int) -> int:
    """Return how many bytes a packed file may hold: ``times`` its size plus ``spare``."""
    return min(_most_bytes(), spare + times * path.stat().st_size)


def too_much(path: Path) -> InputError:
    """Return the error for a file that holds more than its size explains."""
    return InputError(f"{path}: holds more data than its size explains")


class _Bounded(io.RawIOBase):
    """The unpacked content of a file, limited to a number of bytes."""

    def __init__(self, inflated: gzip.GzipFile, most: int, path: Path) -> None:
        self.inflated, self.left, self.path = inflated, most, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        count = self.inflated.readinto(buffer)
        self.left -= count
        if self.left < 0:
            raise too_much(self.path)
        return count


@contextmanager
def open_text(path: str | Path, expected: str, newline: str | None = None) -> Iterator[TextIO]:
    """Open a text file in UTF-8, UTF-16 or UTF-32, also packed with gzip.

    Raises:
        InputError: the file cannot be opened, or the block cannot read it.
    """
    with reading(path, expected), open_bytes(path) as raw:
        with io.TextIOWrapper(raw, find_encoding(raw.peek(4)), newline=newline) as text:
            yield text


def find_encoding(head: bytes) -> str:
    """Return a text's Unicode encoding by its byte order mark, or by where its first zeros are."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    if len(head) > 1 and (head[0] == 0) != (head[1] == 0):
        return "utf-16-be" if head[0] == 0 else "utf-16-le"
    return "utf-8"


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a file, unpacked if it is packed with gzip; read within `reading`."""
    with open_bytes(path) as raw:
        return raw.read()


def read_json(path: str | Path, expected: str, most: int | None = None) -> Any:
    """Return the content of a JSON file, also packed with gzip."""
    with reading(path, expected):
        check_file(path, most)
        return json.loads(read_bytes(path))


def read_yaml(path: str | Path, expected: str) -> Any:
    """Return the plain values of a YAML file, whose number is limited, counting aliases."""
    import yaml  # needed for no other file

    with reading(path, expected):
        text = check_file(path, MAX_CONFIG_BYTES).read_text(encoding="utf-8")
        try:
            return check_size(yaml.safe_load(text), path)
        except yaml.YAMLError as error:
            raise ValueError(one_line(error)) from error


def read_xml(path: str | Path, expected: str) -> ElementTree.Element:
    """Return the root of an XML file; refuse one with a DTD, whose entities can blow up."""
    with reading(path, expected):
        content = check_file(path).read_bytes()
        plain = content.replace(b"\0", b"").upper()  # UTF-16 as well
        if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
            raise InputError(f"{path}: has a DTD, which {expected} does not need; remove it")
        return ElementTree.fromstring(content)


def check_size(value: Any, path: str | Path) -> Any:
    """Return a nested value; refuse one with more values than a configuration may have."""
    waiting, count = [value], 0
    while waiting:
        item = waiting.pop()
        count += 1
        if isinstance(item, dict):
            waiting.extend([*item.values()])
        elif isinstance(item, list | tuple | set):
            waiting.extend(item)
        if count + len(waiting) > MAX_CONFIG_VALUES:
            raise InputError(
                f"{path}: more than {MAX_CONFIG_VALUES:,} values, aliases included; write it out"
            )
    return value


def _most_bytes() -> int:
    setting = os.environ.get(_MAX_BYTES_VARIABLE, "")
    return int(setting) if setting.isdecimal() and len(setting) < 19 else MAX_BYTES
