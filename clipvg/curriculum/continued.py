"""A finished run as the start of another one that goes on with new sources."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipvg.curriculum.measurements import sources_of
from clipvg.curriculum.split import ROW
from clipvg.curriculum.summary import Continued, MeasurerFacts, RunSummary, Training, decided_steps
from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.runs.run import Run
from clipvg.runs.stage import Stage
from clipvg.runtime.files import Json


@dataclass(frozen=True)
class PreviousMeasurer:
    """A measurer of a finished run.

    Attributes:
        stage: key of its stage there.
        trained_on: sources it was trained on.
    """

    stage: str
    trained_on: tuple[str, ...]


@dataclass(frozen=True)
class Previous:
    """What a finished SSA or MSA run hands on.

    Attributes:
        folder: the run directory.
        labels: all its labels, held-out ones included, with its image root.
        rows: rows of ``labels`` that its model was trained on.
        held_rows: rows of ``labels`` that were held out to decide.
        measurers: by name; none where its scores came with the labels.
        winner: key of the stage whose model is the result.
        summary: of the run.
    """

    folder: Path
    labels: LabelTable
    rows: np.ndarray
    held_rows: np.ndarray
    measurers: Mapping[str, PreviousMeasurer]
    winner: str
    summary: RunSummary

    @classmethod
    def read(cls, folder: str | Path) -> Previous:
        """Read a finished run.

        Raises:
            InputError: there is none.
        """
        folder = Path(folder)
        path = folder / "summary.json"
        content = json.loads(path.read_text()) if path.is_file() else {}
        if content.get("method") not in ("ssa", "msa"):
            raise InputError(
                f"{folder} holds no finished run of clipvg adapt; name the --out of one that has "
                "ended."
            )
        summary = RunSummary.from_dict(content)
        if summary.beyond is not None and not summary.beyond.winner.hard:
            raise InputError(
                f"{folder} ended with the variant {summary.beyond.chosen!r}, whose labels have "
                "weights or boxes of their own; run it without that option, which trains nothing "
                "anew, and go on."
            )
        measurers = {
            _name(each): PreviousMeasurer(each.stage, tuple(each.trained_on))
            for each in summary.measurers
            if each.stage
        }
        return cls(
            folder,
            read_labels(folder / "labels.parquet", images=summary.labels.root),
            _rows(folder / "selected.parquet"),
            _rows(folder / "held_out.parquet"),
            measurers,
            summary.winner,
            summary,
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources that are decided on."""
        return sources_of(self.labels)

    @property
    def decided_on_held_out(self) -> bool:
        """Whether held-out pseudo-labels decided there."""
        return self.summary.validation.is_held_out

    def joined(self, new: LabelTable) -> LabelTable:
        """Return the labels of the run followed by new ones.

        Raises:
            InputError: a new label's source was decided on already, or has no name.
        """
        known = sorted(set(self.sources) & set(new.sources()))
        if known:
            raise InputError(
                f"{self.folder} has decided on source {known[0]!r} already; pass the labels of "
                "new sources alone, under another name (--source)."
            )
        return LabelTable.concat([self.labels, new])

    def identity(self) -> Json:
        """Return what of the run decides the next one; not where it is."""
        rows = hashlib.sha256(self.rows.tobytes() + self.held_rows.tobytes()).hexdigest()
        stages = {name: measurer.stage for name, measurer in self.measurers.items()}
        return {"winner": self.winner, "measurers": stages, "rows": rows}

    def sides(self, labels: LabelTable) -> dict[str, bool]:
        """Return which images are held out there, by name, of labels made by `joined`."""
        names, image_of = labels.distinct_images()
        held = np.zeros(len(self.labels), bool)
        held[self.held_rows] = True
        return {names[i]: bool(h) for i, h in zip(image_of[: len(held)], held, strict=True)}

    def selected(self, count: int) -> np.ndarray:
        """Return which of ``count`` labels made by `joined` are selected there, bool."""
        mask = np.zeros(count, bool)
        mask[self.rows] = True
        return mask

    def adopt(self, key: str, run: Run) -> Stage:
        """Copy a stage into another run, without its judgement, and return it."""
        there = self.folder / "stages" / key
        try:
            record = json.loads((there / "stage.json").read_text())
        except OSError as error:
            raise InputError(
                f"{there} is gone, which the run needs to be continued: {error}"
            ) from None
        stage = run.stage(adopted=key)
        stage.adopt({k: v for k, v in record.items() if k != "score"}, there / "model")
        return stage

    def facts(self, training: Training) -> Continued:
        """Return what the next summary says of the run, whose winner is judged there."""
        before = self.summary.continued
        return Continued(
            folder=str(self.folder),
            sources=list(self.sources),
            kept=len(self.rows),
            steps=(*(before.steps if before else ()), *decided_steps(self.summary)),
            score=training.score,
            stage=training.stage,
        )


def _name(measurer: MeasurerFacts) -> str:
    """Return a measurer's name; that of an SSA run has the name of what it was trained on."""
    if measurer.name == "measurer" and measurer.trained_on:
        return "+".join(measurer.trained_on)
    return measurer.name


def _rows(path: Path) -> np.ndarray:
    if not path.is_file():
        return np.zeros(0, np.int64)
    column = read_labels(path).table.column(ROW)
    return np.asarray(column.to_numpy(), dtype=np.int64)
