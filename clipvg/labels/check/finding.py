"""What a check finds: one kind of fault, the rows that have it, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from clipvg.runtime.files import Json

Severity = Literal["error", "warning", "note"]
_KINDS: dict[Severity, tuple[str, ...]] = {
    "error": ("unit", "format", "reversed", "value", "missing-image", "path", "empty-expression"),
    "warning": ("leak", "duplicate", "too-long", "count", "case"),
    "note": (  # but boxes wholly outside are a warning
        "outside", "empty-box", "tiny", "size", "truth", "unreadable-image", "exif", "ambiguous",
        "characters",
    ),
}  # fmt: skip
SEVERITIES = {kind: severity for severity, kinds in _KINDS.items() for kind in kinds}
_EXAMPLES = 3
_ROWS_SHOWN = 10


@dataclass(frozen=True, eq=False)
class Finding:
    """One kind of fault in a table of labels.

    Attributes:
        kind: what it is, one of `SEVERITIES`.
        severity: "error" (not usable as it is), "warning" (usable, and likely a mistake) or "note".
        title: what its labels have in common.
        remedy: what to do about it.
        count: how many labels, or things of another kind that the title names.
        rows: (R,) int64, all labels that have it, from 0 and ascending.
        examples: what is the matter with the first rows, a text each.
        places: where these rows are; "row 3" unless labels are of several files.
    """

    kind: str
    severity: Severity
    title: str
    remedy: str
    count: int
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    examples: tuple[str, ...] = ()
    places: tuple[str, ...] = ()

    @classmethod
    def of_rows(
        cls,
        kind: str,
        title: str,
        found: ArrayLike,
        explain: Callable[[int], str],
        *,
        remedy: str,
        severity: Severity | None = None,
    ) -> list[Finding]:
        """Return the finding of some rows in a list, which is empty where there are none.

        Rows are (N,) bool or numbers; ``explain`` says what is the matter with one.
        """
        found = np.asarray(found)
        rows = np.flatnonzero(found) if found.dtype == bool else np.unique(found)
        if not len(rows):
            return []
        examples = tuple(explain(row) for row in rows[:_EXAMPLES].tolist())
        severity = severity or SEVERITIES[kind]
        places = tuple(f"row {row}" for row in rows[:_EXAMPLES])
        return [cls(kind, severity, title, remedy, len(rows), rows, examples, places)]

    @property
    def message(self) -> str:
        """What is found, with the first row and the remedy, in one line."""
        first = f"; {self.places[0]}: {self.examples[0]}" if self.examples else ""
        return f"{self.title}: {self.count:,}{first}. {self.remedy}"

    def numbered(self, rows: np.ndarray) -> Finding:
        """Return the finding with the numbers (N,) that the labels' rows have elsewhere."""
        numbers = rows[self.rows]
        places = tuple(f"row {number}" for number in numbers[: len(self.places)])
        return replace(self, rows=numbers, places=places)

    def reason(self, row: int) -> str:
        """Return what is the matter with one of its rows: in particular for the first ones."""
        first = self.rows[: len(self.examples)].tolist()
        return self.examples[first.index(row)] if row in first else self.title

    def to_dict(self) -> Json:
        """Return the finding as plain data, with its first rows."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "count": self.count,
            "rows": self.rows[:_ROWS_SHOWN].tolist(),
            "message": self.message,
        }


def show_box(box: np.ndarray) -> str:
    """Return a box for messages: "(412, 33, 398, 90)"."""
    return f"({', '.join(f'{number:g}' for number in box.tolist())})"
