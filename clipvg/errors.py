"""Errors that a user can act on, and the wording they share."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# C0 but for the tab, DEL and C1, marks that turn the direction of text, halves of characters
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_LONGEST = 2000  # characters of a message


class InputError(ValueError):
    """Input that cannot be used. One line: what is wrong, where, and what to do about it."""

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
        """The error for a feature that needs an extra."""
        return cls(
            f"{purpose} needs packages that are not installed: pip install 'clipvg[{extra}]'"
        )


def _shortened(text: str) -> str:
    """A message without its middle, where a value of a file is; what to do is at the end."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST * 3 // 4]} … {text[-_LONGEST // 4 :]}"


def printable(text: str) -> str:
    """Return text whose control characters are written out, an escape as backslash, x1b.

    Names and values out of files come into messages: none may move the cursor, begin a line of its
    own, or turn the direction of what follows.
    """
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def one_line(error: BaseException | str, limit: int | None = None) -> str:
    """Return the text of an error in one line, cut to so many characters; its type if empty."""
    text = printable(" ".join(str(error).split())[:limit])
    return _shortened(text) or type(error).__name__


def near_matches(name: str, choices: Iterable[str]) -> str:
    """The end of an error message about an unknown name: near matches, else all choices.

    Returns:
        "did you mean 'a' or 'b'?" or "choose from a, b, c".
    """
    options = [str(choice) for choice in choices]
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(repr(match) for match in near)}?"
    return f"choose from {', '.join(options)}" if options else "there are none"
