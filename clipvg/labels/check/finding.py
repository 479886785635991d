"""Findings of checks: one kind of fault, the rows that have it, and what to do about it."""

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
        kind: kind of fault, a key of `SEVERITIES`.
        severity: "error" (not usable as it is), "warning" (usable, but likely a mistake) or "note".
        title: what the affected labels have in common.
        remedy: what to do about it.
        count: number of affected labels, or of whatever else the title names.
        rows: (R,) int64, rows of all affected labels, from 0 and ascending.
        examples: description of the fault in each of the first rows.
        places: where these rows are, such as "row 3", with the file if labels come from several.
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
        """Return a list with the finding of some rows, empty if there are none.

        ``found`` is (N,) bool or row numbers; ``explain`` describes the fault of a row.
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
        """The finding in one line, with the first row and the remedy."""
        first = f"; {self.places[0]}: {self.examples[0]}" if self.examples else ""
        return f"{self.title}: {self.count:,}{first}. {self.remedy}"

    def numbered(self, rows: np.ndarray) -> Finding:
        """Return the finding with rows renumbered by ``rows`` (N,), such as rows of a file."""
        numbers = rows[self.rows]
        places = tuple(f"row {number}" for number in numbers[: len(self.places)])
        return replace(self, rows=numbers, places=places)

    def reason(self, row: int) -> str:
        """Return the fault of one of its rows: specific for the first rows, else the title."""
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
    """Format a box for messages: "(412, 33, 398, 90)"."""
    return f"({', '.join(f'{number:g}' for number in box.tolist())})"
