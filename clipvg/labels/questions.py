"""Read tables of questions (image and expression), and write tables of their answers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipvg.boxes import convert
from clipvg.errors import InputError, near_matches
from clipvg.labels.box_column import box_array, box_values
from clipvg.labels.formats import find_format, find_reader
from clipvg.labels.formats.file import File
from clipvg.labels.formats.tables import RECORDS
from clipvg.labels.read import refuse_outside
from clipvg.labels.schema import normalise
from clipvg.labels.table import LabelTable
from clipvg.runtime.gate import check_content, reading

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")  # of files of questions
WRITTEN = (".parquet", ".jsonl", ".csv", ".tsv", ".json")  # of files of answers
_NEEDED = ("image", "expression")
# Ids in COCO's results, and the columns they may come from; without one, the row number from 1.
_IDS = {"image_id": ("image_id", "coco.image_id"), "annotation_id": ("annotation_id", "coco.id")}
_KEPT = {name for names in _IDS.values() for name in names}
_ANYWHERE = (0.0, 0.0, 1.0, 1.0)  # placeholder: a label needs a box, a question has none


def read_questions(path: str | Path, *, images: str | Path) -> LabelTable:
    """Read a table with columns image and expression as labels with placeholder boxes.

    Of the other columns only ids are kept.

    Raises:
        InputError: a column is missing, an expression is blank, the table has no rows, or an image
            name leads out of the folder.
    """
    file = File(Path(path), None, images)
    check_content(file.path)
    with reading(path, "a table of images and expressions"):
        table = find_reader(file)(file)
        assert isinstance(table, pa.Table)
        for name in _NEEDED:
            if name not in table.column_names:
                hint = near_matches(name, table.column_names)
                raise InputError(f"{path}: no column {name!r}; {hint}")
        boxes = box_array(np.tile(_ANYWHERE, (len(table), 1)))
        ids = [name for name in table.column_names if name in _KEPT]
        table = table.select([*_NEEDED, *ids]).append_column("box", boxes)
        labels = LabelTable(normalise(table, where=str(path)), images)
    if not len(labels):
        raise InputError(f"{path}: no rows in it; check the file")
    for row, text in enumerate(labels.table.column("expression").to_pylist()):
        if not (text or "").strip():
            raise InputError(f"{path} row {row}: the expression is blank; write what to look for")
    refuse_outside(labels, Path(path), np.arange(len(labels)), "the folder that holds them all")
    return labels


def write_answers(
    path: str | Path,
    questions: LabelTable,
    found: Mapping[str, np.ndarray],
    reasons: Sequence[str | None],
    *,
    format: str | None = None,
) -> None:
    """Write answers: image, expression, box, score, present, and the reason if there is no answer.

    COCO's results have one object per answer: ``image_id``, ``category_id`` 1, ``bbox`` (xywh),
    ``score``, and ``annotation_id``, the annotation that is answered. Both ids come from columns of
    the questions if there are any, else they are row numbers from 1, as `labels convert` numbers
    the entries of a table.

    Args:
        path: .parquet, .jsonl, .csv, .tsv or .json.
        questions: N questions, or labels.
        found: columns by name: float32 box (N, 4) xyxy pixels, score and present (N,), optionally
            iou, NaN where there is no answer; and int64 width and height of the images.
        reasons: why each row has no answer; None where it has one.
        format: parquet, jsonl, csv, tsv, json, coco or label-studio; None chooses by the ending.

    Raises:
        InputError: the ending belongs to another format, or an id is missing.
    """
    chosen = find_format(path, format)
    columns = {
        **{name: questions.table.column(name) for name in _NEEDED},
        "box": box_array(found["box"]),
        **{
            name: pa.array(found[name], pa.float32(), mask=np.isnan(found[name]))
            for name in ("score", "present", "iou")
            if name in found
        },
        "reason": pa.array(reasons, pa.string()),
    }
    if chosen.name == "label-studio":  # whose boxes are relative to the image size
        unread = np.array([why is not None for why in reasons])
        sides = ("width", "height")
        columns |= {side: pa.array(found[side], pa.int32(), mask=unread) for side in sides}
    if chosen.name == "coco":
        chosen, columns = RECORDS, _results(columns, questions, path)
    assert chosen.write is not None
    chosen.write(pa.table(columns), File(Path(path)))


def _results(
    columns: Mapping[str, pa.Array], questions: LabelTable, path: str | Path
) -> dict[str, pa.Array]:
    """Return the columns of COCO's results, which have no place for rows without an answer."""
    answered = columns["box"].is_valid()
    lacking = len(answered) - answered.true_count
    if lacking:
        warnings.warn(
            f"{path}: left out {lacking:,} rows without an answer, for which COCO's results have "
            "no place",
            stacklevel=3,
        )
    sides = convert(box_values(pa.chunked_array([columns["box"]])), "xyxy", "xywh")
    table = {
        "image_id": _ids("image_id", questions, path),
        "category_id": pa.repeat(1, len(questions)),
        "bbox": box_array(sides),
        "score": columns["score"],
        "annotation_id": _ids("annotation_id", questions, path),
    }
    return {name: column.filter(answered) for name, column in table.items()}


def _ids(name: str, questions: LabelTable, path: str | Path) -> pa.Array | pa.ChunkedArray:
    """Return ids from a column of the questions, as integers if possible; else row numbers."""
    there = [each for each in _IDS[name] if each in questions.table.column_names]
    if not there:
        return pa.array(np.arange(1, len(questions) + 1))
    column = questions.table.column(there[0])
    if column.null_count:
        raise InputError(f"{path}: column {there[0]!r} lacks an id in some rows; give each row one")
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column
