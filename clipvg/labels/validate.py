"""What is wrong (fatal) or odd (not fatal) with labels, row by row."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from clipvg.boxes import convert
from clipvg.errors import InputError
from clipvg.labels.schema import BOX_FORMATS, RELIABILITY, box_values
from clipvg.runtime.images import image_size

if TYPE_CHECKING:
    from clipvg.labels.table import LabelTable

MAX_COORDINATE = 1e7  # pixels; float32 knows a tenth of one there no more
MAX_WEIGHT = 1e6


@dataclass(frozen=True)
class Problem:
    """One finding.

    Attributes:
        row: number of the row, from 0.
        kind: what kind of problem, e.g. "reversed box".
        message: what is wrong with this row.
        fatal: whether the row cannot be used as a label.
    """

    row: int
    kind: str
    message: str
    fatal: bool


@dataclass(frozen=True)
class Validation:
    """All findings about a table of ``count`` labels, ordered by row."""

    problems: list[Problem]
    count: int

    @property
    def ok(self) -> bool:
        """Whether every row can be used (findings that are not fatal may remain)."""
        return not any(problem.fatal for problem in self.problems)

    def summary(self, examples: int = 3) -> str:
        """Counts by kind with a few examples each, one line a kind."""
        lines = [f"{self.count} labels, {len(self.problems)} findings"]
        for kind, count in Counter(problem.kind for problem in self.problems).most_common():
            rows = [problem for problem in self.problems if problem.kind == kind]
            shown = "; ".join(f"row {p.row}: {p.message}" for p in rows[:examples])
            more = "" if count <= examples else "; ..."
            level = "error" if rows[0].fatal else "note"
            lines.append(f"{level}: {kind}: {count} ({shown}{more})")
        return "\n".join(lines)


def validate(labels: LabelTable, *, check_images: bool = True, exif: bool = True) -> Validation:
    """Check every row.

    Args:
        labels: the labels.
        check_images: look for each distinct image, open it, and compare boxes with its size (else
            with the columns width and height, where they are filled).
        exif: whether images are seen upright, as EXIF says, or as stored: a preset's ``exif``.

    Returns:
        Fatal findings (see ``row_problems``; missing and unreadable images) and notes: empty
        boxes, boxes that reach outside the image, odd true boxes, sizes that differ from the
        file's.
    """
    problems = list(row_problems(labels))
    sizes = labels.sizes()
    if check_images:
        found, sizes = _image_problems(labels, sizes, exif)
        problems += found
    problems += _box_notes(labels, sizes)
    problems += _truth_notes(labels)
    return Validation(sorted(problems, key=lambda problem: problem.row), len(labels))


def row_problems(labels: LabelTable) -> Iterator[Problem]:
    """Findings that make a row useless as a label; readers refuse or drop these rows."""
    table = labels.table
    for name, kind in (("image", "empty image name"), ("expression", "empty expression")):
        blank = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(table.column(name), "")), "")
        for row in _rows(blank.to_numpy()):
            yield Problem(row, kind, f"the {name} is empty", True)
    yield from _box_errors(labels)
    if "box_format" in table.column_names:
        words = pc.fill_null(table.column("box_format").cast(pa.string()), "xyxy")
        for row in _rows(~pc.is_in(words, pa.array(BOX_FORMATS)).to_numpy()):
            message = f"box_format {words[row].as_py()!r} is neither xyxy nor xywh"
            yield Problem(row, "unknown box format", message, True)
    weights = labels.weights()
    for row in _rows(~((weights >= 0) & (weights <= MAX_WEIGHT))):
        message = f"weight {weights[row]:g} is not a number from 0 to {MAX_WEIGHT:g}"
        yield Problem(row, "bad weight", message, True)
    for name in labels.reliability_names:
        scores = labels.reliability(name)
        for row in _rows((scores < 0) | (scores > 1)):
            message = f"{RELIABILITY}{name} is {scores[row]:g}, outside [0, 1]"
            yield Problem(row, "bad reliability", message, True)


def _box_errors(labels: LabelTable) -> Iterator[Problem]:
    written = box_values(labels.table.column("box"))
    as_sides = labels.is_xywh()
    finite = np.isfinite(written).all(axis=1)
    for row in _rows(~finite):
        message = f"box {show_box(written[row])} is not four finite numbers"
        yield Problem(row, "box not finite", message, True)
    for row in _rows(finite & (np.abs(written) > MAX_COORDINATE).any(axis=1)):
        message = f"box {show_box(written[row])} lies beyond {MAX_COORDINATE:g} pixels"
        yield Problem(row, "box too far", message, True)
    span = np.where(as_sides[:, None], written[:, 2:], written[:, 2:] - written[:, :2])
    for row in _rows(finite & (span < 0).any(axis=1)):
        axis = int(span[row, 0] >= 0)
        if as_sides[row]:
            fault = f"a negative {('width', 'height')[axis]}; expected xywh pixels"
        else:
            fault = f"{('x2 < x1', 'y2 < y1')[axis]}; expected xyxy pixels"
        yield Problem(row, "reversed box", f"box {show_box(written[row])} has {fault}", True)


def _image_problems(
    labels: LabelTable, sizes: np.ndarray, exif: bool
) -> tuple[list[Problem], np.ndarray]:
    names, image_of = labels.distinct_images()
    faults: list[str | None] = []
    actual = np.full((len(names), 2), -1, dtype=np.int32)
    for i, name in enumerate(names):
        fault, size = _look_at(labels, name, exif)
        faults.append(fault)
        actual[i] = size
    kinds = np.array([fault or "" for fault in faults], dtype=object)
    problems = [
        Problem(row, str(kinds[image_of[row]]), str(labels.image_path(names[image_of[row]])), True)
        for row in _rows(kinds[image_of] != "")
    ]
    sizes, opened = sizes.copy(), actual[image_of]
    differs = (sizes >= 0).all(axis=1) & (opened >= 0).all(axis=1) & (sizes != opened).any(axis=1)
    for row in _rows(differs):
        # A file on its side has both sizes, before and after its EXIF orientation is applied.
        if tuple(sizes[row]) != tuple(opened[row][::-1]):
            (w, h), (x, y) = sizes[row], opened[row]
            message = f"width and height say {w}x{h}, the file is {x}x{y}"
            problems.append(Problem(row, "size differs", message, False))
    turned = (opened >= 0).all(axis=1) & (sizes == opened[:, ::-1]).all(axis=1)
    unknown = (sizes < 0).any(axis=1) | turned  # boxes are drawn on the image as it is seen
    sizes[unknown] = opened[unknown]
    return problems, sizes


def _look_at(
    labels: LabelTable, name: str | None, exif: bool
) -> tuple[str | None, tuple[int, int]]:
    """A fault or None, and (width, height) as the image is seen."""
    if not name:
        return None, (-1, -1)
    path = labels.image_path(name)
    if not os.path.isfile(path):
        return "missing image", (-1, -1)
    try:
        return None, image_size(path, exif=exif)
    except InputError:
        return "unreadable image", (-1, -1)


def _box_notes(labels: LabelTable, sizes: np.ndarray) -> list[Problem]:
    written = box_values(labels.table.column("box"))
    corners = np.where(labels.is_xywh()[:, None], convert(written, "xywh", "xyxy"), written)
    span = corners[:, 2:] - corners[:, :2]
    empty = (span >= 0).all(axis=1) & (span == 0).any(axis=1)
    notes = [
        Problem(row, "empty box", f"box {show_box(written[row])} has no area", False)
        for row in _rows(empty)
    ]
    # Half a pixel is rounding, not a finding.
    beyond = (corners[:, :2] < -0.5).any(axis=1) | (corners[:, 2:] > sizes + 0.5).any(axis=1)
    for row in _rows(beyond & (sizes >= 0).all(axis=1)):
        size = f"{sizes[row, 0]}x{sizes[row, 1]}"
        message = f"box {show_box(written[row])} reaches outside the {size} image"
        notes.append(Problem(row, "box outside the image", message, False))
    return notes


def _truth_notes(labels: LabelTable) -> list[Problem]:
    truth = labels.truth()
    given = ~np.isnan(truth).all(axis=1)
    odd = given & ~(np.isfinite(truth).all(axis=1) & (truth[:, 2:] >= truth[:, :2]).all(axis=1))
    return [
        Problem(row, "odd true box", f"truth {show_box(truth[row])} is no xyxy box", False)
        for row in _rows(odd)
    ]


def show_box(box: np.ndarray) -> str:
    """A box for messages: "(412, 33, 398, 90)"."""
    return f"({', '.join(f'{number:g}' for number in box.tolist())})"


def _rows(mask: ArrayLike) -> list[int]:
    return np.flatnonzero(np.asarray(mask, dtype=bool)).tolist()
