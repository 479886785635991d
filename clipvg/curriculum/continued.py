"""Continue a finished run with the labels of new sources."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from clipvg.curriculum.split import ROW, sources_of
from clipvg.curriculum.summary import Continued, MeasurerFacts, RunSummary, Training
from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.labels.read import TRUSTED
from clipvg.pseudo import mean_entities
from clipvg.runs.record import whole_root
from clipvg.runs.run import Run
from clipvg.runs.stage import Stage, Workers
from clipvg.runtime.files import Json, read_json


@dataclass(frozen=True)
class Previous:
    """A finished SSA or MSA run that another run continues."""

    folder: Path  # the run directory
    labels: LabelTable  # all its labels, held-out ones included, with its image root
    rows: np.ndarray  # int64, rows of ``labels`` that its model was trained on
    held_rows: np.ndarray  # int64, rows of ``labels`` that were held out to decide
    summary: RunSummary  # of the run

    @classmethod
    def read(cls, folder: str | Path) -> Previous:
        """Read a finished run; refuse one that gave its labels weights or other boxes."""
        folder = Path(folder)
        if read_json(folder / "summary.json").get("method") not in ("ssa", "msa"):
            raise InputError(
                f"{folder} holds no finished run of clipvg adapt; name the --out of one that has "
                "finished."
            )
        summary = RunSummary.read(folder)
        if summary.beyond is not None and not summary.beyond.winner.hard:
            raise InputError(
                f"{folder} ended with the variant {summary.beyond.chosen!r}, whose labels have "
                "weights or boxes of their own; run it again without that option, which trains "
                "nothing new, then continue from it."
            )
        return cls(
            folder,
            read_labels(  # whose image names were checked when that run began
                folder / "labels.parquet", images=summary.labels.root, options=TRUSTED
            ),
            _rows(folder / "selected.parquet"),
            _rows(folder / "held_out.parquet"),
            summary,
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources that the run has decided on."""
        return sources_of(self.labels)

    @property
    def measurers(self) -> dict[str, MeasurerFacts]:
        """Trained measurers by name; that of SSA is named after the sources it was trained on."""
        trained = [each for each in self.summary.measurers if each.stage]
        if self.summary.method == "ssa" and trained and trained[0].trained_on:
            return {"+".join(trained[0].trained_on): trained[0]}
        return {each.name: each for each in trained}

    def joined(self, new: LabelTable) -> LabelTable:
        """Return the labels of the run followed by new ones, which must be of other sources."""
        known = sorted(set(self.sources) & set(new.sources()))
        if known:
            raise InputError(
                f"{self.folder} has decided on source {known[0]!r} already; pass the labels of "
                "new sources alone, under another name (--source)."
            )
        is_same = whole_root(self.labels) == whole_root(new)  # but perhaps spelled differently
        own = self.labels.with_images(new.images) if is_same else self.labels
        return LabelTable.concat([own, new])

    def identity(self) -> Json:
        """Return the facts of the run that determine the next one, without its location."""
        rows = hashlib.sha256(self.rows.tobytes() + self.held_rows.tobytes()).hexdigest()
        stages = {name: measurer.stage for name, measurer in self.measurers.items()}
        return {"winner": self.summary.winner, "measurers": stages, "rows": rows}

    def sides(self, labels: LabelTable) -> dict[str, bool]:
        """Return whether each image of the run was held out, by its name in the `joined` labels."""
        names, image_of = labels.distinct_images()
        held = np.zeros(len(self.labels), bool)
        held[self.held_rows] = True
        return {names[i]: bool(h) for i, h in zip(image_of[: len(held)], held, strict=True)}

    def adopt(self, key: str, run: Run) -> Stage:
        """Copy a stage into another run, without its score, and return it."""
        there = Stage(self.folder / "stages" / key, Workers())
        if damaged := there.damaged():
            raise InputError(
                f"{damaged} is missing or damaged, and the run cannot be continued without it; run "
                f"the command of {self.folder} again, which restores it."
            )
        record = {name: value for name, value in there.read().items() if name != "score"}
        stage = run.stage(adopted=key)
        stage.adopt(record, there.model_folder)
        return stage

    def facts(self, training: Training) -> Continued:
        """Return facts of the run for the next summary; `training` is its winner, judged again."""
        summary, steps = self.summary, self.summary.all_steps
        if summary.method == "ssa":  # its one step, with what its best variant kept
            (step,) = steps
            steps = (replace(step, kept=summary.kept, total=summary.kept, score=summary.score),)
        return Continued(
            folder=str(self.folder),
            sources=list(self.sources),
            kept=len(self.rows),
            steps=steps,
            score=training.score,
            stage=training.stage,
        )


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What is known of the sources of the labels before adapting.

    Args:
        scored_by: names of measurers that have scored the labels (columns ``reliability.NAME``);
            no measurer is trained then.
        continue_from: directory of a finished run to continue with the labels of new sources: its
            selected labels and measurers are taken over, and only new sources are decided on.
        complexity: function that returns the complexity of one source's labels; MSA starts with
            the least complex source. By default the mean number of entities per expression.
        labelled: annotated labels beside the pseudo-labels, for semi-supervised SSA: the measurer
            is trained on them alone, and every candidate on them too.
    """

    scored_by: Sequence[str] = ()
    continue_from: str | Path | None = None
    complexity: Callable[[LabelTable], float] = mean_entities
    labelled: LabelTable | None = None

    @cached_property
    def previous(self) -> Previous | None:
        """The run to continue, if any."""
        return None if self.continue_from is None else Previous.read(self.continue_from)


def _rows(path: Path) -> np.ndarray:
    if not path.is_file():
        return np.zeros(0, np.int64)
    column = read_labels(path).table.column(ROW)
    return np.asarray(column.to_numpy(), dtype=np.int64)
