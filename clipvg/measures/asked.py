"""Labels put to a vision-language model as questions to be answered with yes or no."""

from __future__ import annotations

import numpy as np

from clipvg.labels import LabelTable
from clipvg.model import GroundingModel
from clipvg.observe.frame import Frame, unit_of
from clipvg.observe.loading import Pretrained
from clipvg.observe.write import Writer
from clipvg.reliability.batch import Batch
from clipvg.reliability.image_measure import ImageMeasure
from clipvg.reliability.measurer import Context, Scores

_AT_ONCE = 8  # questions


class AskedVerifier(ImageMeasure):
    """How likely a model answers yes, against no, see `clipvg.measures.Verifier`."""

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
        """Return what was observed, with a reason where the model says neither."""
        neither = np.flatnonzero(np.isnan(observed[:, 0])).tolist()
        why = f"{self.name}: the model begins its answer with neither yes nor no"
        return Scores(observed[:, 0], dict.fromkeys(neither, why))
