"""One way to show how far something long has come."""

import sys

from tqdm import tqdm

_DELAY = 2.0  # seconds: what ends sooner needs no bar
_IN_FILES = 10.0  # seconds between two lines of a bar that goes to a file


def progress_bar(
    total: int, *, desc: str, unit: str, show: bool, initial: int = 0, leave: bool = True
) -> tqdm:
    """A progress bar on standard error, which appears after two seconds.

    Args:
        total: number of units.
        desc: what is going on, one or two words.
        unit: name of one unit.
        show: False for a bar that is never seen.
        initial: units that were done before.
        leave: False takes the bar away in the end.
    """
    return tqdm(
        total=total,
        desc=desc,
        unit=unit,
        disable=not show,
        delay=_DELAY,
        mininterval=0.1 if sys.stderr.isatty() else _IN_FILES,
        initial=initial,
        leave=leave,
    )
