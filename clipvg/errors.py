"""Errors that a user can act on, and functions for the wording of their messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# C0 except tab, DEL and C1, line separators and bidirectional marks, lone surrogates
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_LONGEST = 2000  # characters in a message


class InputError(ValueError):
    """Unusable input; the one-line message says what is wrong, where, and what to do about it."""

    def __init__(self, message: object = "") -> None:
        text = str(message)
        if text.startswith("Caught InputError in ") and "\nOriginal Traceback" in text:
            # A DataLoader worker raises its traceback as the message; the last line is ours.
            text = text.rstrip().rsplit("\n", 1)[-1].removeprefix("clipvg.errors.InputError: ")
        super().__init__(_shortened(printable(text)))


class MissingExtraError(ImportError):
    """An optional dependency is not installed; the message holds the command that installs it."""

    @classmethod
    def for_extra(cls, purpose: str, extra: str) -> MissingExtraError:
        """Return the error for a feature that needs an extra."""
        return cls(
            f"{purpose} needs packages that are not installed: pip install 'clipvg[{extra}]'"
        )


def _shortened(text: str) -> str:
    """Cut the middle of a long message, which quotes a value; the advice is at the end."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST * 3 // 4]} … {text[-_LONGEST // 4 :]}"


def printable(text: str) -> str:
    """Return text with its control characters escaped, as `repr` writes them.

    Messages quote names and values from files: none may move the cursor, start a new line or
    change the direction of the text that follows.
    """
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def one_line(error: BaseException | str, limit: int | None = None) -> str:
    """Return the text of an error on one line, cut to `limit` characters; its type if empty."""
    text = printable(" ".join(str(error).split())[:limit])
    return _shortened(text) or type(error).__name__


def near_matches(name: str, choices: Iterable[str]) -> str:
    """Return the end of an error message about an unknown name: near matches, else all choices.

    Returns:
        "did you mean 'a' or 'b'?", "choose from a, b, c" or, without choices, "there are none".
    """
    options = [str(choice) for choice in choices]
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(repr(match) for match in near)}?"
    return f"choose from {', '.join(options)}" if options else "there are none"
