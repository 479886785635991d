"""What went wrong, in one line."""

from __future__ import annotations

from clipvg.errors import InputError, MissingExtraError, one_line, printable


class UsageError(Exception):
    """The command line or its YAML file cannot be used.

    Not a ValueError: jsonargparse catches those while it parses and wraps them anew.
    """


def explain(error: Exception) -> tuple[str, bool]:
    """Return one line for people, and whether the input is at fault (else the program is)."""
    if isinstance(error, OSError) and error.filename is not None:
        # "No such file or directory: 'x'" names the file after the complaint; people look first
        # for the file.
        return one_line(
            f"{printable(str(error.filename))}: {error.strerror or type(error).__name__}"
        ), True
    if isinstance(error, UsageError | InputError | MissingExtraError | OSError):
        return one_line(error), True
    if type(error).__name__ == "OutOfMemoryError":
        return "the device's memory is full; lower the batch size or use another --device", False
    return (
        f"{type(error).__name__}: {one_line(error)} (set CLIPVG_DEBUG=1 for the traceback)"
    ), False
