"""What went wrong, in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from clipvg.errors import InputError, MissingExtraError


class UsageError(Exception):
    """The command line or its YAML file cannot be used.

    Not a ValueError: jsonargparse catches those while it parses and wraps them anew.
    """


def find_near(word: str, known: Iterable[str]) -> str:
    """End a message with the names closest to a word; empty when none is close."""
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else ""


def explain(error: Exception) -> tuple[str, bool]:
    """Return one line for people, and whether the input is at fault (else the program is)."""
    if isinstance(error, OSError) and error.filename is not None:
        # "No such file or directory: 'x'" names the file after the complaint; people look first
        # for the file.
        return one_line(f"{error.filename}: {error.strerror or type(error).__name__}"), True
    if isinstance(error, UsageError | InputError | MissingExtraError | OSError):
        return one_line(str(error) or type(error).__name__), True
    if type(error).__name__ == "OutOfMemoryError":
        return "the device's memory is full; lower the batch size or use another --device", False
    return (
        f"{type(error).__name__}: {one_line(str(error))} (set CLIPVG_DEBUG=1 for the traceback)"
    ), False


def one_line(text: str) -> str:
    """Return the text with every run of white space as one space."""
    return " ".join(text.split())
