"""Check a table of labels: count what is in it, and find everything that is wrong or odd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clipvg.labels.check.expressions import find_odd_expressions, find_repeats
from clipvg.labels.check.finding import Finding
from clipvg.labels.check.images import find_image_faults, known_sizes, look_at_images
from clipvg.labels.check.misread import find_misreading
from clipvg.labels.check.names import find_missing, find_name_faults, with_plain_names
from clipvg.labels.check.rows import find_bad_rows, find_odd_boxes
from clipvg.labels.check.splits import count_by, count_by_split, find_count_faults, find_leaks
from clipvg.labels.table import LabelTable
from clipvg.runtime.files import Json

Counts = Mapping[str, tuple[int, int]]
_ORDER = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class LabelCheck:
    """Result of a check: what is in a table of labels, and what is wrong with it.

    Attributes:
        labels: number of labels.
        images: number of distinct images.
        splits: numbers of labels and images by split; "" stands for no split.
        sources: numbers of labels and images by source; "" stands for an unknown source.
        fullest: the image with most labels, and their number; "" and 0 without labels.
        findings: errors first, then warnings, then notes.
    """

    labels: int
    images: int
    splits: Counts
    sources: Counts
    fullest: tuple[str, int]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not any(each.severity == "error" for each in self.findings)

    @property
    def is_clean(self) -> bool:
        """Whether there are neither errors nor warnings; notes may remain."""
        return all(each.severity == "note" for each in self.findings)

    def __str__(self) -> str:
        lines = [f"{self.labels:,} labels of {self.images:,} images"]
        lines += [f"{each.severity} {each.kind}: {each.message}" for each in self.findings]
        return "\n".join(lines)

    def to_dict(self) -> Json:
        """Return counts and findings as plain data."""
        return {
            "labels": self.labels,
            "images": self.images,
            "splits": _counted(self.splits),
            "sources": _counted(self.sources),
            "fullest_image": {"image": self.fullest[0], "labels": self.fullest[1]},
            "findings": [finding.to_dict() for finding in self.findings],
        }


def _counted(counts: Counts) -> Json:
    return {name: {"labels": count[0], "images": count[1]} for name, count in counts.items()}


def check_labels(
    labels: LabelTable,
    *,
    open_images: bool = True,
    exif: bool = True,
    against: Mapping[str, LabelTable] | None = None,
    files: Sequence[tuple[str, int]] = (),
    rows: np.ndarray | None = None,
    progress: bool = False,
) -> LabelCheck:
    """Check labels: units and formats of boxes, images, expressions, repeats, counts and leaks.

    Args:
        labels: labels, read with ``on_error="keep"`` to check all rows of a file.
        open_images: look up and decode each image; otherwise sizes are taken from the columns,
            and a million labels take seconds.
        exif: whether images are seen upright, as EXIF says, or as stored: a preset's ``exif``.
        against: tables with which these must not share images, by a name for messages.
        files: path and number of labels of each file that the labels were read from, in order, to
            look up published counts and the file of each row.
        rows: (N,) int64 row of each label in its file, if not all rows of the files were taken.
        progress: show a progress bar if images are opened.

    Example:
        >>> labels = LabelTable.from_columns(
        ...     image=["a.jpg"], expression=["red dog"], box=[[110, 20, 10, 220]])
        >>> [finding.kind for finding in check_labels(labels, open_images=False).findings]
        ['reversed']
    """
    names = find_name_faults(labels)
    labels = with_plain_names(labels, backslashes=True)
    facts = look_at_images(labels, progress=progress) if open_images else None
    sizes = known_sizes(labels, facts, exif=exif)
    misread = find_misreading(labels, sizes)
    bad = [*find_bad_rows(labels)]
    if misread:  # boxes that are odd or reversed as read follow from that
        bad = [each for each in bad if each.kind != "reversed"]
    else:
        misread = [*find_odd_boxes(labels, sizes)]
    findings = [*misread, *bad, *names, *find_odd_expressions(labels)]
    findings += find_repeats(labels)
    findings += find_leaks(labels, against or {})
    for part, path in _parts(labels, files):
        findings += find_count_faults(part, path)
    if facts is not None:
        findings += find_missing(labels, facts.missing)
        findings += find_image_faults(labels, facts)
    findings = [_placed(each, files, rows) for each in findings]
    return LabelCheck(
        len(labels),
        labels.num_images,
        count_by_split(labels),
        count_by(labels, labels.encoded_sources()),
        _fullest(labels),
        tuple(sorted(findings, key=lambda each: _ORDER[each.severity])),
    )


def _fullest(labels: LabelTable) -> tuple[str, int]:
    names, of_row = labels.distinct_images()
    if not names:
        return "", 0
    counts = np.bincount(of_row)
    return names[int(counts.argmax())], int(counts.max())


def _parts(labels: LabelTable, files: Sequence[tuple[str, int]]) -> list[tuple[LabelTable, str]]:
    if len(files) == 1:
        return [(labels, files[0][0])]
    ends = np.cumsum([count for _, count in files])
    return [
        (LabelTable(labels.table.slice(end - count, count), labels.images), path)
        for (path, count), end in zip(files, ends.tolist(), strict=True)
    ]


def _placed(finding: Finding, files: Sequence[tuple[str, int]], rows: np.ndarray | None) -> Finding:
    """Return the finding with rows as in the file; for several files, with places of the first."""
    if not len(finding.rows):
        return finding
    if len(files) < 2:
        return finding if rows is None else finding.numbered(rows)
    ends = np.cumsum([count for _, count in files])
    places = []
    for row in finding.rows[: len(finding.examples)].tolist():
        file = int(np.searchsorted(ends, row, side="right"))
        number = row - int(ends[file]) + files[file][1] if rows is None else rows[row]
        places.append(f"{files[file][0]} row {number}")
    return replace(finding, places=tuple(places))
