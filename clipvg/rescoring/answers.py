"""Answer all rows of a table with a model: boxes and their scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipvg.data.letterbox import image_boxes, square_boxes
from clipvg.features.cache import Against
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel
from clipvg.rescoring.config import DTYPES, EngineConfig
from clipvg.rescoring.shards import Runner, score_models
from clipvg.rescoring.store import ScoreStore
from clipvg.training.evaluate import PredictedBoxes
from clipvg.training.usable import refuse_long, too_long


@dataclass
class Answered(PredictedBoxes):
    """Answers to the N rows of a table, in its order."""

    scores: np.ndarray  # (N,) float32, as in `Predictions`; NaN where the image cannot be read
    present: np.ndarray  # (N,) float32, likewise

    def columns(self) -> dict[str, np.ndarray]:
        """Return columns for `clipvg.labels.questions.write_answers`, boxes as in `predict`."""
        width, height = self.sizes.T
        box = image_boxes(self.boxes, self.sizes, self.side)
        sure = {"score": self.scores, "present": self.present}
        return {"box": box, **sure, "width": width, "height": height}


def answer_labels(
    model: GroundingModel,
    labels: LabelTable,
    *,
    against: Against = "box",
    batch_size: int | None = None,
    progress: bool = False,
    store: ScoreStore | None = None,
    runner: Runner | None = None,
) -> Answered:
    """Answer every row of a table as `predict` does, each distinct image encoded once.

    Rows whose expression is too long for the model get the reason instead of an answer.

    Args:
        model: in the precision to use.
        labels: N labels or questions, with an image root.
        against: which boxes become `target`.
        batch_size: expressions fused at once; None chooses by device and number of tokens.
        progress: show a bar.
        store: as in `score_models`.
        runner: where the shards are answered; None is this process.
    """
    precision = next(name for name, dtype in DTYPES.items() if dtype == model.dtype)
    config = EngineConfig(batch_size=batch_size, precision=precision, answers=True)
    long = too_long(labels, [model.tokenizer])
    rows = np.setdiff1d(np.arange(len(labels)), list(long))
    if not len(rows):
        refuse_long(labels, [model.tokenizer])
    answers, unread = score_models(
        labels.select(rows) if long else labels,
        {"model": model},
        config,
        progress=progress,
        store=store,
        runner=runner,
    )
    found = np.full((len(answers), len(labels)), np.nan, np.float32)
    found[:, rows] = answers
    reasons = {int(rows[row]): reason for row, reason in unread.items()} | long
    boxes, (scores, present), sizes = found[:4].T, found[4:6], np.nan_to_num(found[6:].T, nan=1)
    integer, side = model.preset.integer_boxes, model.backbone.image_size
    given = labels.boxes(integer=integer) if against == "box" else labels.truth()
    target = square_boxes(given, sizes, side)
    why = [reasons.get(row) for row in range(len(labels))]
    return Answered(boxes, target, sizes.astype(np.int64), why, side, scores, present)
