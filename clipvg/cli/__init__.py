"""Command line: parse arguments, call the library, print results. No method logic lives here.

This file imports nothing slow, so that Ctrl-C ends a command with one line from the very start.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from contextlib import suppress


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code of the process.

    Args:
        argv: words after the program's name; those of the process when None.

    Returns:
        0 when the command succeeded, 2 on bad input and 1 on an internal failure (each with one
        line on standard error), 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP. Standard
        output holds nothing but the result.
    """
    try:
        from clipvg.cli.dispatch import dispatch

        code = dispatch(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt as stop:
        print("clipvg: interrupted; nothing ran.", file=sys.stderr)
        code = getattr(stop, "code", 128 + signal.SIGINT)
    if argv is None:  # the process is ending: nothing is left to interrupt
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code
