"""Progress bars, and other messages about progress, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO

from tqdm import tqdm

from clipvg.errors import printable

_DELAY = 2.0  # seconds: what ends sooner needs no bar
_IN_FILES = 30.0  # seconds between two lines of a bar that goes to a file
_TASK: ContextVar[str] = ContextVar("task", default="")


@contextmanager
def task(name: str) -> Iterator[None]:
    """Prefix all bars in this block with the task they belong to, such as "r ≥ 0.5 (2 of ≤ 4)"."""
    before = _TASK.set(name)
    try:
        yield
    finally:
        _TASK.reset(before)


def say(text: str, *, show: bool) -> None:
    """Print a status line to standard error if ``show`` is set."""
    if show:
        print(printable(text), file=sys.stderr, flush=True)


def progress_bar(
    total: int, *, desc: str, unit: str, show: bool, initial: int = 0, leave: bool = True
) -> tqdm:
    """Return a bar on standard error that appears after two seconds; in a log file it is lines."""
    is_terminal = sys.stderr.isatty()
    return (tqdm if is_terminal else _Lines)(
        total=total,
        desc=printable(", ".join(filter(None, (_TASK.get(), desc)))),
        unit=unit,
        disable=not show,
        delay=_DELAY,
        mininterval=0.1 if is_terminal else _IN_FILES,
        initial=initial,
        leave=leave,
    )


class _Lines(tqdm):
    """A bar printed as separate lines, for output that is not a terminal."""

    disable: bool
    last_print_t: float

    @staticmethod
    def status_printer(file: TextIO) -> Callable[[str], None]:
        """Return the function that prints the state of the bar."""

        def show(text: str) -> None:
            if text.strip():
                print(text.strip(), file=file, flush=True)

        return show

    def close(self) -> None:
        """Print the last state, if an earlier one was printed."""
        if not self.disable and self.last_print_t > self.start_t:
            self.display()
        self.disable = True
