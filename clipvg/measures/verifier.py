"""Verifier: answers to "does this box show ...?", from a vision-language model or a file."""

from __future__ import annotations

import json
import re
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.labels.formats import CSV, JSONL, PARQUET
from clipvg.labels.formats.file import File
from clipvg.labels.schema import CORNERS, SIDES
from clipvg.measures.common.measure import Measure
from clipvg.model import GroundingModel
from clipvg.observe.frame import Frame, unit_of
from clipvg.observe.loading import Pretrained, load_pretrained
from clipvg.observe.write import Writer
from clipvg.reliability.batch import Batch
from clipvg.reliability.image_measure import ImageMeasure
from clipvg.reliability.measurer import Context, Scores
from clipvg.runtime.distributed import Device, choose_device
from clipvg.runtime.files import atomic_path
from clipvg.runtime.gate import check_content

_AT_ONCE = 8  # questions per batch


class AskedVerifier(ImageMeasure):
    """Probability that a model answers yes rather than no, see `clipvg.measures.Verifier`."""

    def __init__(
        self, name: str, loaded: Pretrained, *, question: str, unit: str | None = None
    ) -> None:
        self.name = name
        self._question = question
        self._unit = unit_of(loaded.model.config.model_type, unit)
        self._writer = Writer(loaded)

    @property
    def asks(self) -> tuple[GroundingModel, ...]:
        """No grounding model."""
        return ()

    def observe(self, batch: Batch) -> np.ndarray:
        """Return P(yes) / (P(yes) + P(no)) of each label, (B,) float32."""
        processor = self._writer.loaded.processor
        frames = batch.chunk.memo.get(
            id(self),
            lambda: [Frame.of(image[True], processor, self._unit) for image in batch.chunk.images],
        )
        boxes = batch.labels.boxes()[batch.rows].tolist()
        expressions = batch.labels.table.column("expression").take(batch.rows).to_pylist()
        asked = [frames[place] for place in batch.image]
        questions = [
            self._question.format(expression=expression, box=frame.from_image(box))
            for frame, expression, box in zip(asked, expressions, boxes, strict=True)
        ]
        parts = [slice(at, at + _AT_ONCE) for at in range(0, len(questions), _AT_ONCE)]
        return np.concatenate(
            [self._writer.yes([f.image for f in asked[part]], questions[part]) for part in parts]
        )

    def score(self, observed: np.ndarray, labels: LabelTable, context: Context) -> Scores:
        """Return the observed values, with a reason where the model says neither yes nor no."""
        neither = np.flatnonzero(np.isnan(observed[:, 0])).tolist()
        why = f"{self.name}: the model begins its answer with neither yes nor no"
        return Scores(observed[:, 0], dict.fromkeys(neither, why))


QUESTION = "Does the box {box} show {expression!r}? Answer yes or no."
ANSWERS = ("score", "answer")
_WORDS = {
    "yes": 1.0, "true": 1.0, "y": 1.0, "1": 1.0,
    "no": 0.0, "false": 0.0, "n": 0.0, "0": 0.0,
}  # fmt: skip
_FORMATS = {".parquet": PARQUET, ".jsonl": JSONL, ".csv": CSV}


class Verifier(Measure):
    """Yes, no or a score for each label, from a vision-language model or from a file.

    The model is one of Hugging Face transformers; r = P(yes) / (P(yes) + P(no)) of the first word
    of its answer to the question about the label, with the box in the unit that the model writes.
    A label for which its answer would begin with another word is not scored.

    The file is Parquet, JSON Lines or CSV. Column ``score`` holds numbers in [0, 1], or column
    ``answer`` yes or no (also true/false, 1/0, or a sentence that starts with one of these; other
    words are no answer). Labels are identified by column ``row``, counted from 0, or by ``image``,
    ``expression`` and ``box`` as in label files, with boxes up to `precision` pixels apart. r =
    mean of a label's answers; a label without an answer is not scored.

    Args:
        path: file of answers; `write_questions` writes the questions.
        precision: largest difference between coordinates of the same box, in pixels, e.g. from
            rounding.
        model: instead of a file, a hub name or folder, as for `clipvg.observe`.
        device: where the model runs; None for a CUDA GPU if there is one, else the CPU.
        unit: unit of boxes in questions, "pixel", "unit" or "thousand"; None for the model's own.
        question: template of the question, with ``{expression}`` and ``{box}``.

    Raises:
        InputError: not exactly one of path and model is given, the model cannot be loaded, or the
            file cannot be read, lacks a column of answers or those that identify labels, or names
            rows that do not exist.
    """

    path: str | Path | None = field(default=None, kw_only=False)
    precision: Annotated[float, (0, None)] = 1.0
    model: str | Path | None = None
    device: Device = None
    unit: str | None = None
    question: str = QUESTION
    name: str = "verifier"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.path is None) == (self.model is None):
            raise InputError(
                f"{self.name!r} needs path or model, and not both; write verifier,path=ANSWERS or "
                "verifier,model=NAME"
            )
        try:
            self.question.format(expression="", box=[])
        except (LookupError, ValueError) as error:
            raise InputError(
                f"question={self.question!r} is not a template ({error!r}); it may have "
                "{expression} and {box}"
            ) from None
        # load now, so that a bad model or file is refused on creation
        _ = self._answers if self.model is None else self._asked

    @property
    def requires(self) -> frozenset[str]:
        """Images, if a model looks at them."""
        return frozenset({"images"} if self.model else ())

    @cached_property
    def _asked(self) -> ImageMeasure:
        assert self.model is not None
        loaded = load_pretrained(str(self.model), "writer", device=choose_device(self.device))
        return AskedVerifier(self.name, loaded, question=self.question, unit=self.unit)

    @cached_property
    def _table(self) -> pa.Table:
        path = Path(self.path or "")
        found = _FORMATS.get(path.suffix.lower())
        if found is None:
            raise InputError(
                f"{path}: answers are read from {', '.join(_FORMATS)}; change the kind."
            )
        if not path.is_file():
            raise InputError(f"{path}: no such file; expected the verifier's answers.")
        table = found.read(File(check_content(path)))
        names = {*table.column_names}
        has_box = "box" in names or {*CORNERS} <= names or {*SIDES} <= names
        if "row" not in names and not ({"image", "expression"} <= names and has_box):
            raise InputError(
                f"{path}: columns {table.column_names} do not name labels; expected row, or image, "
                "expression and box."
            )
        return table

    @cached_property
    def _answers(self) -> np.ndarray:
        """(A,) float64 in [0, 1], NaN where there is no answer."""
        names = self._table.column_names
        if "score" in names:
            found = self._numbers("score")
            bad = ~np.isnan(found) & ~((found >= 0) & (found <= 1))
            if bad.any():
                raise InputError(
                    f"{self.path}: {int(bad.sum())} score(s) are outside [0, 1], first "
                    f"{found[bad][0]:g} in row {int(np.flatnonzero(bad)[0])}; divide them by the "
                    "verifier's largest score."
                )
            return found
        if "answer" not in names:
            raise InputError(
                f"{self.path}: columns {names} hold no answers; expected score, or answer."
            )
        answers = self._table.column("answer").to_pylist()
        distinct = {value: _verdict(value) for value in dict.fromkeys(answers)}
        if distinct and all(np.isnan(verdict) for verdict in distinct.values()):
            raise InputError(
                f"{self.path}: no answer starts with yes, no, true, false, 1 or 0; the first is "
                f"{next(iter(distinct))!r}."
            )
        return np.array([distinct[value] for value in answers], dtype=np.float64)

    def _numbers(self, name: str) -> np.ndarray:
        column = self._table.column(name)
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        try:
            wide = column.cast(pa.float64())
        except pa.ArrowException as error:
            raise InputError(f"{self.path}: column {name!r} holds no numbers ({error})") from None
        return pc.fill_null(wide, float("nan")).to_numpy()

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        """Return the mean answer of each label, NaN where it has no valid answer."""
        if self.model is not None:
            return self._asked.measure(labels, context)
        is_numbered = "row" in self._table.column_names
        at, row = self._numbered(labels) if is_numbered else self._matched(labels)
        answers = self._answers[at]
        given = ~np.isnan(answers)
        count = np.bincount(row[given], minlength=len(labels))
        total = np.bincount(row[given], answers[given], len(labels))
        scores = np.divide(total, count, out=np.full(len(labels), np.nan), where=count > 0)
        unnamed = np.flatnonzero(count == 0)
        if len(labels) and len(unnamed) == len(labels):
            raise InputError(
                f"{self.path}: none of its {len(self._answers)} answers is about one of these "
                f"{len(labels)} labels; check the images' names, the expressions and the boxes "
                "(xyxy unless box_format says xywh)."
            )
        why = f"{self.name}: {Path(self.path or '').name} has no answer for this label"
        return Scores(scores.astype(np.float32), dict.fromkeys(unnamed.tolist(), why))

    def _numbered(self, labels: LabelTable) -> tuple[np.ndarray, np.ndarray]:
        """Return indices of answers and the label rows that they name, (A,) each."""
        rows = self._numbers("row")
        bad = ~((rows >= 0) & (rows < len(labels)) & (rows == np.floor(rows)))
        if bad.any():
            known = f"whole numbers from 0 to {len(labels) - 1}" if len(labels) else "none"
            raise InputError(
                f"{self.path}: {int(bad.sum())} answer(s) name rows that are not there, first "
                f"{rows[bad][0]:g}; expected {known}. Was the file made for other labels?"
            )
        return np.arange(len(rows)), rows.astype(np.int64)

    def _matched(self, labels: LabelTable) -> tuple[np.ndarray, np.ndarray]:
        """Return indices of answers and the rows of labels of equal image, expression and box."""
        names = [name for name in self._table.column_names if name not in ANSWERS]
        asked = LabelTable(self._table.select(names))
        joined = _names(asked, "at").join(
            _names(labels, "label"), keys=["image", "expression"], join_type="inner"
        )
        at, row = joined.column("at").to_numpy(), joined.column("label").to_numpy()
        apart = np.abs(asked.boxes()[at] - labels.boxes()[row]).max(axis=1, initial=0)
        return at[apart <= self.precision], row[apart <= self.precision]


def write_questions(labels: LabelTable, path: str | Path, *, question: str = QUESTION) -> None:
    """Write the questions for a verifier as JSON Lines, for `Verifier` to read back with answers.

    Args:
        labels: N labels.
        path: .jsonl file; each line has row, image (full path), expression, box (xyxy pixels) and
            question. Add ``answer`` or ``score`` to each.
        question: template with ``{expression}`` and ``{box}``.
    """
    boxes = labels.boxes().tolist()
    rows = zip(labels.image_names, labels.expressions, boxes, strict=True)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row, (image, expression, box) in enumerate(rows):
            text = question.format(expression=expression, box=[round(x) for x in box])
            line = {"row": row, "image": str(labels.image_path(image)), "expression": expression,
                    "box": box, "question": text}  # fmt: skip
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _verdict(value: object) -> float:
    if isinstance(value, bool | int | float):
        return float(value) if value in (0, 1) else float("nan")
    words = re.findall(r"\w+", str(value or "").lower())
    return _WORDS.get(words[0], float("nan")) if words else float("nan")


def _names(labels: LabelTable, number: str) -> pa.Table:
    """Return the image and expression of each label, to join on, with its row as `number`."""
    columns = [labels.table.column(name).cast(pa.string()) for name in ("image", "expression")]
    return pa.table([*columns, np.arange(len(labels))], names=["image", "expression", number])
