"""Tables of questions, image and expression, and of their answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipvg.errors import InputError, near_matches
from clipvg.labels.formats import find_format, find_reader
from clipvg.labels.formats.file import File
from clipvg.labels.refuse import refuse_outside
from clipvg.labels.schema import box_array, normalise
from clipvg.labels.scores import reason_column
from clipvg.labels.table import LabelTable
from clipvg.runtime.gate import reading

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")  # of questions
WRITTEN = (".parquet", ".jsonl", ".csv", ".json")  # of answers
_NEEDED = ("image", "expression")
_ANYWHERE = (0.0, 0.0, 1.0, 1.0)  # a label has a box, a question has none


def read_questions(path: str | Path, *, images: str | Path) -> LabelTable:
    """Read a table with the columns image and expression; others are left out.

    Args:
        path: .csv, .tsv, .jsonl or .parquet.
        images: folder that image names are below.

    Returns:
        Labels whose boxes mean nothing.

    Raises:
        InputError: a column is missing, an expression is blank, or a name leads out of the folder.
    """
    file = File(Path(path), None, images)
    file.check()
    with reading(path, "a table of images and expressions"):
        table = find_reader(file)(file)
        assert isinstance(table, pa.Table)
        for name in _NEEDED:
            if name not in table.column_names:
                hint = near_matches(name, table.column_names)
                raise InputError(f"{path}: no column {name!r}; {hint}")
        boxes = box_array(np.tile(_ANYWHERE, (len(table), 1)))
        table = table.select(list(_NEEDED)).append_column("box", boxes)
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
    boxes: np.ndarray,
    scores: np.ndarray,
    present: np.ndarray,
    reasons: Mapping[int, str],
) -> None:
    """Write answers: image, expression, box, score, present, and why a row has none.

    Args:
        path: .parquet, .jsonl, .csv or .json.
        questions: N questions.
        boxes: (N, 4) float32 xyxy pixels, NaN where there is no answer.
        scores: (N,) float32.
        present: (N,) float32.
        reasons: row -> why it has no answer.
    """
    count = len(boxes)
    columns = {
        **{name: questions.table.column(name) for name in _NEEDED},
        "box": box_array(boxes),
        "score": pa.array(scores, pa.float32(), mask=np.isnan(scores)),
        "present": pa.array(present, pa.float32(), mask=np.isnan(present)),
        "reason": reason_column(reasons, count) if reasons else pa.nulls(count, pa.string()),
    }
    found = find_format(path)
    assert found.write is not None
    found.write(pa.table(columns), File(Path(path)))
