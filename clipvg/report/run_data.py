"""What a curriculum left in its run directory: labels, scores and which labels were selected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipvg.curriculum import RunSummary
from clipvg.curriculum.split import ROW
from clipvg.data.scenes import is_correct
from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.report.html import PageImage
from clipvg.report.sections import label_image

_GALLERY = 12


@dataclass(frozen=True)
class Selection:
    """Training labels of a run with their scores; what is missing on disk is None.

    Attributes:
        labels: N training labels, without those held out.
        scores: reliability by the measurers.
        correct: (N,) bool where the truth is known.
        is_selected: (N,) bool, labels that the resulting model was trained on.
    """

    labels: LabelTable | None
    scores: ScoreMatrix | None
    correct: np.ndarray | None
    is_selected: np.ndarray | None

    @classmethod
    def read(cls, folder: Path, summary: RunSummary) -> Selection:
        """Read what is there of a finished run."""
        scores = _scores(folder, summary)
        path = folder / "labels.parquet"
        if not path.is_file() or scores is None:
            return cls(None, scores, None, None)
        # Names were refused, or trusted, when the run began.
        labels = read_labels(path, images=summary.labels.root, allow_outside_root=True)
        is_held, is_selected = (
            _mask(folder / f"{name}.parquet", len(labels)) for name in ("held_out", "selected")
        )
        training = labels.select(~is_held)
        if len(training) != len(scores):
            return cls(None, scores, None, None)
        correct = is_correct(training) if training.has_truth else None
        return cls(training, scores, correct, is_selected[~is_held])

    def gallery(self, reliability: np.ndarray, model_folder: Path) -> list[PageImage]:
        """Draw labels that were selected and left out, half of each, drawn by chance.

        Args:
            reliability: (N,) that decided about each label, NaN where nothing did.
            model_folder: of the model whose predictions are drawn.
        """
        if self.labels is None or self.is_selected is None:
            return []
        draw = np.random.default_rng(0)
        decided = np.isfinite(reliability)
        rows = [
            int(row)
            for side in (decided & self.is_selected, decided & ~self.is_selected)
            for row in np.sort(draw.permutation(np.flatnonzero(side))[: _GALLERY // 2])
        ]
        predicted = _predictions(model_folder, self.labels, rows)
        shown = [
            label_image(self.labels, row, predicted.get(row), self._remark(row, reliability[row]))
            for row in rows
        ]
        return [image for image in shown if image is not None]

    def _remark(self, row: int, r: float) -> str:
        assert self.is_selected is not None
        correct = self.correct
        kind = "" if correct is None else "correct label " if correct[row] else "wrong label "
        return f"{kind}{'kept' if self.is_selected[row] else 'left out'} (r = {r:.2f})"


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


def _predictions(
    model_folder: Path, labels: LabelTable, rows: Sequence[int]
) -> dict[int, np.ndarray]:
    if not model_folder.is_dir():
        return {}
    from clipvg.model import load

    model = load(model_folder)
    some = labels.select(list(rows))
    found = {}
    for row, name, expression in zip(rows, some.image_names, some.expressions, strict=True):
        try:
            found[row] = model.predict(some.image_path(name), expression, scores=False)[0]
        except (InputError, OSError):
            continue
    return found
