"""Models that write boxes as grounders: vision-language models, and Florence-2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipvg.errors import InputError
from clipvg.grounders.located import Located
from clipvg.labels.formats.vlm import boxes_in
from clipvg.observe.answers import Answer, Answerer
from clipvg.observe.frame import WORDS, Frame, unit_of
from clipvg.observe.loading import Pretrained

if TYPE_CHECKING:
    from PIL import Image

PROMPT = (
    "Locate the region this sentence describes: {expression}. Answer with its bounding box "
    "[x1, y1, x2, y2], {unit}."
)
_TASK = "<CAPTION_TO_PHRASE_GROUNDING>"  # of Florence-2


class WriterLocator:
    """Places expressions by asking a model that writes; of several boxes the first counts.

    Florence-2 is asked to ground the expression as a caption; others get a question, and boxes in
    their answers are read as those in `clipvg.labels.formats.vlm`.

    Args:
        loaded: from `load_pretrained(name, "writer")`.
        unit: of the boxes: "pixel", "unit" or "thousand"; None is what the type of model writes.
        prompt: template with ``{expression}``, and perhaps ``{unit}``.
        max_tokens: longest answer.
        batch_size: questions asked at once.
    """

    def __init__(
        self,
        loaded: Pretrained,
        *,
        unit: str | None = None,
        prompt: str = PROMPT,
        max_tokens: int = 64,
        batch_size: int = 8,
    ) -> None:
        kind = loaded.model.config.model_type
        if "{expression}" not in prompt:
            raise InputError(f"prompt={prompt!r} has no '{{expression}}'; put it where that goes")
        self.unit = unit_of(kind, unit)
        self.prompt = _TASK + "{expression}" if kind == "florence2" else prompt
        self.max_tokens, self.batch_size = max_tokens, batch_size
        self.loaded, self.answerer = loaded, Answerer(loaded)

    def locate(
        self, images: Sequence[Image.Image], expressions: Sequence[Sequence[str]]
    ) -> list[Located]:
        """Return the box of each expression of each image; a score is the answer's probability."""
        processor = self.loaded.processor
        frames = [Frame.of(image, processor, self.unit) for image in images]
        found = [Located.nothing(len(asked)) for asked in expressions]
        questions = [
            (number, place, self._question(expression))
            for number, asked in enumerate(expressions)
            for place, expression in enumerate(asked)
        ]
        for start in range(0, len(questions), self.batch_size):
            part = questions[start : start + self.batch_size]
            answers = self.answerer.answer(
                [frames[number].image for number, *_ in part],
                [question for *_, question in part],
                max_tokens=self.max_tokens,
            )
            for (number, place, _), answer in zip(part, answers, strict=True):
                boxes = self._boxes(answer, frames[number])
                if boxes:
                    box = np.array([boxes[0]])
                    sure = np.array([answer.probability])
                    found[number].put([place], box, sure, images[number].size)
                else:
                    said = " ".join(answer.text.split())[:60]
                    found[number].reasons[place] = f"the model's answer has no box: {said!r}"
        return found

    def _question(self, expression: str) -> str:
        # `replace`, for braces in an expression or prompt mean themselves
        asked = self.prompt.replace("{unit}", WORDS[self.unit])
        return asked.replace("{expression}", expression)

    def _boxes(self, answer: Answer, frame: Frame) -> list[list[float]]:
        if not self.prompt.startswith(_TASK):
            return [frame.to_image(box) for box in boxes_in(answer.text)]
        processor = self.loaded.processor
        found = processor.post_process_generation(
            text=answer.text, task=_TASK, image_size=frame.image.size
        )
        return found[_TASK]["bboxes"]
