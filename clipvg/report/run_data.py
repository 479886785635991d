"""What a curriculum left in its run directory: labels, scores and which labels were selected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipvg.curriculum import RunSummary
from clipvg.curriculum.split import ROW
from clipvg.data.scenes import is_correct
from clipvg.labels import LabelTable, read_labels
from clipvg.labels.read import TRUSTED
from clipvg.reliability.matrix import ScoreMatrix


@dataclass(frozen=True)
class Selection:
    """Training labels of a run with their scores; what is missing on disk is None."""

    labels: LabelTable | None  # N training labels, without those held out
    scores: ScoreMatrix | None  # reliability by the measurers
    correct: np.ndarray | None  # (N,) bool where the truth is known
    is_selected: np.ndarray | None  # (N,) bool, labels that the resulting model was trained on

    @classmethod
    def read(cls, folder: Path, summary: RunSummary) -> Selection:
        """Read what is there of a finished run."""
        scores = _scores(folder, summary)
        path = folder / "labels.parquet"
        if not path.is_file() or scores is None:
            return cls(None, scores, None, None)
        # Names were refused, or trusted, when the run began.
        labels = read_labels(path, images=summary.labels.root, options=TRUSTED)
        is_held, is_selected = (
            _mask(folder / f"{name}.parquet", len(labels)) for name in ("held_out", "selected")
        )
        training = labels.select(~is_held)
        if len(training) != len(scores):
            return cls(None, scores, None, None)
        correct = is_correct(training) if training.has_truth else None
        return cls(training, scores, correct, is_selected[~is_held])


def _scores(folder: Path, summary: RunSummary) -> ScoreMatrix | None:
    """The scores of the measurers, without those of the adapted model."""
    files = dict.fromkeys(measurer.scores for measurer in summary.measurers)
    paths = [folder / "scores" / f"{name}.parquet" for name in files]
    if not all(path.is_file() for path in paths):
        return None
    return ScoreMatrix.concat(map(ScoreMatrix.read, paths))


def _mask(path: Path, count: int) -> np.ndarray:
    """Which of the labels of a run a table of it holds."""
    mask = np.zeros(count, bool)
    if path.is_file():
        mask[read_labels(path).table.column(ROW).to_numpy()] = True
    return mask
