"""What the models of finished stages say of the labels: reliability and boxes, kept in the run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from clipvg.curriculum.fusing import fuse, lasting
from clipvg.curriculum.protocols import ModelStore
from clipvg.curriculum.run import Run, Stage
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import BoxPredictor, Context, Measurer
from clipvg.reliability.score import measure
from clipvg.runtime.files import write_array


class Measurements:
    """Labels seen by the models of a run; every method reads what is there or makes it.

    Args:
        labels: N training labels, without truth and reliability.
        run: run directory.
        store: keeps models in the run.
        as_measurer: makes a trained model a measurer.
        progress: show a bar while labels are measured.
    """

    def __init__(
        self,
        labels: LabelTable,
        *,
        run: Run,
        store: ModelStore,
        as_measurer: Callable[[Any], Measurer],
        progress: bool = False,
    ) -> None:
        self.labels, self.dir, self.store = labels, run, store
        self.as_measurer, self.progress = as_measurer, progress

    def measure(
        self,
        stage: Stage,
        name: str,
        labels: LabelTable | None = None,
        *,
        trained_on: Sequence[str],
        part: str = "",
        teacher: bool = False,
    ) -> ScoreMatrix:
        """Return the reliability of labels by a stage's model.

        Args:
            stage: a finished one.
            name: of the measurer.
            labels: what to measure; the training labels when None.
            trained_on: source names of what the stage was trained on.
            part: word for other labels in the name of the file.
            teacher: let the stage's teacher measure, where there is one.
        """
        labels = self.labels if labels is None else labels
        path = self.dir.scores_path(scores_key(stage.key, name, part))
        is_there = path.exists()
        self.dir.workers.wait()  # all have looked before one writes
        if not is_there:
            measurer = self.as_measurer(self.store.load(_folder(stage, teacher)))
            context = Context(progress=self.progress)
            row = measure(measurer, labels, context)
            if not np.isfinite(row).any() and context.reasons:
                why = next(iter(context.reasons.values()))
                raise InputError(f"the measurer {name!r} could score no label; the first: {why}")
            sources = (tuple(filter(None, trained_on)),)
            scores = ScoreMatrix((name,), row[None], labels.sources(), sources, context.reasons)
            self.dir.write(lambda: scores.write(path))
        return ScoreMatrix.read(path)

    def fuse(
        self,
        scores: ScoreMatrix,
        measures: Sequence[str],
        stages: Mapping[str, Stage],
        *,
        teacher: bool = False,
    ) -> tuple[ScoreMatrix, str]:
        """Return the training labels' scores by further measures, and the name of their file.

        Args:
            scores: by the measurers.
            measures: as of `fuse`.
            stages: of the measurers, by name.
            teacher: let measures that ask a model ask the stage's teacher, where there is one.
        """
        rows = hashlib.sha256(scores.scores.tobytes()).hexdigest()
        key = scores_key(self.dir.stage(measures=list(measures), scores=rows).key, "measures")
        path = self.dir.scores_path(key)
        is_there = path.exists()
        self.dir.workers.wait()  # all have looked before one writes
        if not is_there:
            folders = {name: _folder(stage, teacher) for name, stage in stages.items()}
            models = {name: self.store.load(folder) for name, folder in folders.items()}
            found = fuse(
                scores,
                self.labels,
                measures,
                models,
                known=self._lasting(scores, measures, models),
                progress=self.progress,
            )
            self.dir.write(lambda: found.write(path))
        return ScoreMatrix.read(path), key

    def _lasting(
        self, scores: ScoreMatrix, measures: Sequence[str], models: Mapping[str, Any]
    ) -> ScoreMatrix | None:
        """Return the scores that no trained head decides: made once in a run, for all rounds."""
        keys = lasting(measures, models)
        if not keys:
            return None
        path = self.dir.scores_path(scores_key(self.dir.stage(lasting=keys).key, "lasting"))
        is_there = path.exists()
        self.dir.workers.wait()  # all have looked before one writes
        if not is_there:
            found = fuse(scores, self.labels, [*keys], models, progress=self.progress)
            self.dir.write(lambda: found.write(path))
        return ScoreMatrix.read(path)

    def predict(self, stage: Stage) -> np.ndarray:
        """Return the boxes of a stage's model for the labels, (N, 4) xyxy pixels.

        Raises:
            InputError: its measurer is no `BoxPredictor`.
        """
        path = stage.folder / "boxes.npy"
        is_there = path.exists()
        self.dir.workers.wait()  # all have looked before one writes
        if not is_there:
            measurer = self.as_measurer(self.store.load(stage.model_folder))
            if not isinstance(measurer, BoxPredictor):
                raise InputError(
                    f"a {type(measurer).__name__} predicts no boxes to correct labels with; give "
                    "it a method predict(labels, context), or leave correct out."
                )
            boxes = measurer.predict(self.labels, Context(progress=self.progress))
            self.dir.write(lambda: write_array(path, np.asarray(boxes, np.float32)))
        return np.asarray(np.load(path))


def _folder(stage: Stage, teacher: bool) -> Path:
    """Where the model that measures is."""
    return stage.teacher_folder if teacher and stage.teacher_folder.exists() else stage.model_folder


def sources_of(labels: LabelTable) -> tuple[str, ...]:
    """Return the distinct known sources of labels, in order of first appearance."""
    return tuple(dict.fromkeys(filter(None, labels.sources())))


def scores_key(stage: str, name: str, part: str = "") -> str:
    """Return the name of a file of scores, see `Run.scores_path`."""
    return "-".join(filter(None, (stage, quote(name, safe=" "), part)))
