"""One-line error messages in the words of the command line."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterable

from clipvg.errors import InputError, MissingExtraError, one_line, printable

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


_ARGUMENT = re.compile(r"(?<![\w.])([a-z]\w*)=('[^']*'|\"[^\"]*\"|[\w.-]*[\w])")
_IN_SHELL = {"clipvg.model.list_backbones() names all": "clipvg info --backbones lists all"}


class UsageError(Exception):
    """The command line or its YAML file cannot be used.

    Not a ValueError: jsonargparse catches those while parsing and wraps them again.
    """


def explain(error: Exception) -> tuple[str, bool]:
    """Return a one-line message, and whether the input is at fault (else the program is)."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        _, path, why = error.args[0][0]  # the first file that could not be copied
        return f"{path}: {why}", True
    if isinstance(error, OSError) and error.filename is not None:
        # "No such file or directory: 'x'" names the file last; people look for it first.
        return one_line(
            f"{printable(str(error.filename))}: {error.strerror or type(error).__name__}"
        ), True
    if isinstance(error, UsageError | InputError | MissingExtraError | OSError):
        why = error.strerror if isinstance(error, OSError) else None
        return why or one_line(error), True
    if type(error).__name__ == "OutOfMemoryError":
        return "the device's memory is full; lower the batch size or use another --device", False
    if "DataLoader worker" in str(error):
        return (
            "a process that reads images was killed, often for want of memory; run the same "
            "command again with fewer workers"
        ), False
    return (
        f"{type(error).__name__}: {one_line(error)} (set CLIPVG_DEBUG=1 for the traceback)"
    ), False


def as_typed(message: str, options: Iterable[str], flags: Iterable[str] = ()) -> str:
    """Return a message of the library with its arguments written as command-line options.

    ``batch_size=0`` and ``on_error='drop'`` become ``--batch_size 0`` and ``--on_error drop``.
    Flags are the options that take no value.
    """
    without_value = set(flags)
    option_of = {option.rpartition(".")[2].lstrip("-"): option for option in options}
    for said, in_shell in _IN_SHELL.items():
        message = message.replace(said, in_shell)

    def typed(found: re.Match[str]) -> str:
        name, value = found.groups()
        value = {"None": "null", "True": "true", "False": "false"}.get(value, value.strip("'\""))
        if name not in option_of:
            return found[0]
        option = option_of[name]
        return option if option in without_value else f"{option} {value}"

    return _ARGUMENT.sub(typed, message)


def is_full(error: Exception) -> bool:
    """Return whether the disk could not be written to: full, over quota, read-only or failing."""
    return isinstance(error, OSError) and error.errno in _FULL
