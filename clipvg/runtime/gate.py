"""The gate that files from strangers come through: what is opened is a file of a sane size.

Readers open with these functions, and read inside `reading`; docs/security.md says what holds.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from clipvg.errors import InputError, one_line

MAX_BYTES = 2**35  # 32 GiB: no label file of 10^7 rows comes near
MAX_CONFIG_BYTES = 2**22
MAX_CONFIG_VALUES = 10**5  # of a YAML file or a configuration, aliases each time they are used
_MAX_BYTES_VARIABLE = "CLIPVG_MAX_BYTES"
_ADDRESS = re.compile(r"([a-z][a-z0-9+]+):/+")  # a drive of Windows has one letter


def check_local(path: str | Path) -> Path:
    """Return a path on this machine's file systems.

    Raises:
        InputError: an address such as s3://bucket/file, which would become a folder "s3:".
    """
    if found := _ADDRESS.match(str(path)):  # a Path has one slash of the two
        place = f"{found[1]}://{str(path)[found.end() :]}"
        raise InputError(f"{place}: only files of this machine are read and written; copy it")
    return Path(path)


def check_file(path: str | Path, most: int | None = None) -> Path:
    """Return the path of a file that may be opened.

    Args:
        path: to be opened.
        most: bytes it may have; None is CLIPVG_MAX_BYTES of the environment, or `MAX_BYTES`.

    Raises:
        InputError: nothing is there; a folder, pipe or device; empty, or too large.
    """
    path = check_local(path)
    try:
        facts = path.stat()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a null character, or half a character
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


@contextmanager
def reading(path: str | Path, expected: str) -> Iterator[None]:
    """Say in one line that a file cannot be read, whatever its content made a parser raise.

    Args:
        path: the file that the block reads.
        expected: what it should hold, for the error.

    Raises:
        InputError: the block raised an error that content can cause.
    """
    try:
        yield
    except (InputError, ImportError):
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise InputError(f"{path}: more than the memory holds; expected {expected}") from error
    except Exception as error:  # parsers raise almost anything; CLIPVG_DEBUG=1 shows it
        raise InputError(f"{path}: damaged, or not {expected} ({one_line(error, 120)})") from error


def read_json(path: str | Path, expected: str, most: int | None = None) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: it cannot be opened, or is not JSON.
    """
    with reading(path, expected):
        return json.loads(check_file(path, most).read_bytes())


def read_yaml(path: str | Path, expected: str) -> Any:
    """Return the content of a YAML file: plain values, in which aliases do not multiply.

    Raises:
        InputError: it cannot be opened, is not YAML, or holds more than a configuration does.
    """
    import yaml  # with which no other file is read

    with reading(path, expected):
        text = check_file(path, MAX_CONFIG_BYTES).read_text(encoding="utf-8")
        try:
            return check_size(yaml.safe_load(text), path)
        except yaml.YAMLError as error:
            raise ValueError(one_line(error)) from error


def read_xml(path: str | Path, expected: str) -> ElementTree.Element:
    """Return the root of an XML file; one with a DTD, which can blow up, is refused.

    Raises:
        InputError: it cannot be opened, is not XML, or has a DTD.
    """
    with reading(path, expected):
        content = check_file(path).read_bytes()
        plain = content.replace(b"\0", b"").upper()  # UTF-16 as well
        if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
            raise InputError(f"{path}: has a DTD, which {expected} does not need; take it out")
        return ElementTree.fromstring(content)


def check_size(value: Any, path: str | Path, most: int = MAX_CONFIG_VALUES) -> Any:
    """Return nested lists and dictionaries of no more values than these, else raise InputError."""
    waiting, count = [value], 0
    while waiting:
        item = waiting.pop()
        count += 1
        if isinstance(item, dict):
            waiting.extend([*item.values()])
        elif isinstance(item, list | tuple | set):
            waiting.extend(item)
        if count + len(waiting) > most:
            raise InputError(f"{path}: more than {most:,} values, aliases included; write it out")
    return value


def _most_bytes() -> int:
    setting = os.environ.get(_MAX_BYTES_VARIABLE, "")
    return int(setting) if setting.isdecimal() and len(setting) < 19 else MAX_BYTES
