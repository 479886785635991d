"""Example labels drawn with their boxes: some at random, the worst, and the most changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from clipvg.boxes import iou
from clipvg.data.image import read_image
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.report.drawing import Mark, draw_boxes, encode_image
from clipvg.report.html import PageImage
from clipvg.report.numbers import percent

if TYPE_CHECKING:
    from clipvg.report.selection import Selection

_SIDE = 800  # pixels of an image's long side in the gallery
_SHOWN = 6  # images per group
_LOOKED_AT = 48  # labels among which the worst and the most changed are looked for

Boxes = Mapping[int, np.ndarray]


def curriculum_cases(
    selection: Selection, reliability: np.ndarray, after: Path, before: Path | None
) -> list[PageImage]:
    """Draw labels of a run: random ones, kept and left out, then the worst and the most changed.

    Args:
        selection: labels of the run.
        reliability: (N,), by which each label was decided on; NaN where none was.
        after: folder of the adapted model.
        before: folder of the model trained without curriculum, if there is one.
    """
    labels, is_selected = selection.labels, selection.is_selected
    if labels is None or is_selected is None:
        return []
    draw = np.random.default_rng(0)
    decided = np.isfinite(reliability)
    sides = [
        np.sort(draw.permutation(np.flatnonzero(side))[: _LOOKED_AT // 2])
        for side in (decided & is_selected, decided & ~is_selected)
    ]
    looked_at = [int(row) for side in sides for row in side]
    by_chance = [int(row) for side in sides for row in np.sort(draw.permutation(side)[:_SHOWN])]
    boxes = _predictions(after, labels, looked_at)
    old = {} if before is None else _predictions(before, labels, looked_at)
    remarks = {row: _remark(selection, row, reliability[row]) for row in looked_at}
    return [
        *_group("by chance", by_chance, labels, boxes, old, remarks),
        *_group("the worst", _worst(labels, boxes), labels, boxes, old, remarks),
        *_group("changed most by adapting", _changed(boxes, old), labels, boxes, old, remarks),
    ]


def training_cases(labels: LabelTable, model: Path) -> list[PageImage]:
    """Draw labels of a training with the boxes of its model: random ones, then the worst."""
    rows = np.random.default_rng(0).permutation(len(labels))[:_LOOKED_AT].tolist()
    boxes = _predictions(model, labels, rows)
    return [
        *_group("by chance", sorted(rows[:_SHOWN]), labels, boxes, {}, {}),
        *_group("the worst", _worst(labels, boxes), labels, boxes, {}, {}),
    ]


def label_image(
    labels: LabelTable,
    row: int,
    predicted: np.ndarray | None = None,
    remarks: Sequence[str] = (),
    *,
    score: float | None = None,
    before: np.ndarray | None = None,
    exif: bool = True,
) -> PageImage:
    """Draw one label's image with its box, true box and prediction, and state their overlap.

    Args:
        labels: labels with an image root.
        row: index of the label.
        predicted (4,): xyxy pixels, if there is a prediction.
        remarks: lines to show below the expression, before the overlap.
        score: score of the prediction.
        before (4,): the box predicted before adapting, xyxy pixels, if known.
        exif: whether boxes refer to the image turned upright by EXIF, or to the stored one.

    Raises:
        InputError: the image cannot be read.
    """
    one = labels.select([row])
    name, expression = one.image_names[0], one.expressions[0]
    box, truth = one.boxes()[0], one.truth()[0]
    image = read_image(one.image_path(name), exif=exif)
    scale = min(1.0, _SIDE / max(image.size))  # before drawing: lines keep their width
    image = image.resize([max(1, round(scale * side)) for side in image.size])
    has_truth = bool(np.isfinite(truth).all())
    marks = [Mark(scale * box, role="pseudo"), Mark(scale * truth, role="true")]
    said = list(remarks)
    if labels.has_truth and not has_truth:
        said.append("nothing in the image fits the expression")
    if before is not None:
        marks.append(Mark(scale * before, role="before"))
    if predicted is not None:
        marks.append(Mark(scale * predicted, role="predicted"))
        boxes = [each for each in (before, predicted) if each is not None]
        overlaps = {"true box": iou(boxes, truth)} if has_truth else {}
        overlaps["label"] = iou(boxes, box)
        shown = [
            f"with the {name} {' → '.join(map(percent, overlap.tolist()))}"
            for name, overlap in overlaps.items()
        ]
        shown += [] if score is None else [f"score {percent(score)}"]
        said.append(f"IoU {', '.join(shown)}")
    return PageImage(
        *encode_image(draw_boxes(image, marks), max_size=_SIDE),
        alt=f"{name} with the boxes of the expression “{expression}”.",
        caption=expression,
        detail="\n".join(said),
    )


def _group(
    name: str,
    rows: Sequence[int],
    labels: LabelTable,
    boxes: Boxes,
    old: Boxes,
    remarks: Mapping[int, str],
) -> list[PageImage]:
    drawn = []
    for row in rows:
        said = [remarks[row]] if row in remarks else []
        with suppress(InputError, OSError):
            drawn.append(label_image(labels, row, boxes.get(row), said, before=old.get(row)))
    return [replace(image, group=name) for image in drawn]


def _worst(labels: LabelTable, boxes: Boxes) -> list[int]:
    """Return rows whose predicted box overlaps least with the true box, or else the label's."""
    rows = np.array(list(boxes), np.int64)
    if not len(rows):
        return []
    wanted, truth = labels.boxes(rows=rows), labels.select(rows.tolist()).truth()
    if labels.has_truth:  # where nothing fits the expression, no box is wrong
        wanted = truth
    overlap = iou(np.stack(list(boxes.values())), wanted)
    order = np.argsort(overlap, kind="stable")  # NaN comes last
    return [int(rows[i]) for i in order[:_SHOWN] if overlap[i] < 0.5]


def _changed(boxes: Boxes, old: Boxes) -> list[int]:
    overlap = {
        row: float(iou(box[None], old[row][None])[0]) for row, box in boxes.items() if row in old
    }
    return [row for row in sorted(overlap, key=overlap.__getitem__)[:_SHOWN] if overlap[row] < 0.9]


def _remark(selection: Selection, row: int, r: float) -> str:
    assert selection.is_selected is not None
    correct = selection.correct
    kind = "" if correct is None else "correct label " if correct[row] else "wrong label "
    return f"{kind}{'kept' if selection.is_selected[row] else 'left out'} (r = {r:.2f})"


def _predictions(folder: Path, labels: LabelTable, rows: Sequence[int]) -> dict[int, np.ndarray]:
    """Return the boxes of a model by row; none without a model, or for unreadable images."""
    if not folder.is_dir() or not len(rows):
        return {}
    from clipvg.model import load

    model = load(folder)
    some = labels.select(list(rows))
    readable: dict[int, tuple[Image.Image, str]] = {}
    for row, name, expression in zip(rows, some.image_names, some.expressions, strict=True):
        with suppress(InputError, OSError):
            image = read_image(some.image_path(name), exif=model.preset.exif)
            readable[row] = image, expression
    images, expressions = map(list, zip(*readable.values(), strict=True)) if readable else ([], [])
    found = model.predict(images, expressions, scores=False)
    return {row: each[0] for row, each in zip(readable, found, strict=True)}
