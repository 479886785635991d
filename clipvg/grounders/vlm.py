"""Models that write boxes, as grounders: vision-language models and those with location tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np

from clipvg.errors import InputError
from clipvg.grounders.located import Located
from clipvg.grounders.marks import MARKS, Marks
from clipvg.grounders.pretrained import PretrainedGrounder
from clipvg.labels.formats.vlm import boxes_in
from clipvg.observe.frame import WORDS, Frame, Unit, unit_of
from clipvg.observe.loading import Kind
from clipvg.observe.write import Answer, Writer

if TYPE_CHECKING:
    from PIL import Image

PROMPT = (
    "Locate the region this sentence describes: {expression}. Answer with its bounding box "
    "[x1, y1, x2, y2], {unit}."
)


class VisionLanguageModel(PretrainedGrounder):
    """A model that answers with a box in text, as numbers or as location tokens.

    The first box of an answer counts; the score is the geometric mean probability of the answer's
    tokens. Florence-2, PaliGemma and Kosmos-2 get prompts of their own and answer with location
    tokens; other models get a question, and boxes in their answers are parsed as by
    `clipvg.labels.formats.vlm`.

    Args:
        unit: unit of boxes, "pixel" (of the image as the model sees it), "unit" or "thousand"; None
            for that of the model type. Location tokens have their own.
        prompt: template with ``{expression}``, and optionally ``{unit}``; None for the model's
            default.
        max_tokens: largest number of tokens in an answer.
    """

    kind: ClassVar[Kind] = "writer"
    name: str = "vlm"
    unit: str | None = None
    prompt: str | None = None
    max_tokens: Annotated[int, (1, None)] = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if "{expression}" not in self._prompt:
            raise InputError(
                f"prompt={self.prompt!r} has no '{{expression}}'; put it where that goes"
            )
        _ = self._unit  # an unknown unit is refused on creation

    @property
    def weights(self) -> str:
        """Identity of the model's weights, and its prompt."""
        return f"{super().weights} {self._prompt}"

    @property
    def _type(self) -> str:
        return self.loaded.model.config.model_type

    @property
    def _marks(self) -> Marks | None:
        return MARKS.get(self._type)

    @property
    def _prompt(self) -> str:
        if self.prompt is not None:
            return self.prompt
        return self._marks.prompt if self._marks else PROMPT

    @cached_property
    def _unit(self) -> Unit:
        if self._marks is None:
            return unit_of(self._type, self.unit)
        if self.unit is not None:
            raise InputError(
                f"unit={self.unit!r}: models of type {self._type!r} mark places in their own "
                "way; leave it out"
            )
        return "unit"

    @cached_property
    def _writer(self) -> Writer:
        return Writer(self.loaded)

    def locate(
        self, images: Sequence[Image.Image], expressions: Sequence[Sequence[str]]
    ) -> list[Located]:
        """Return the box for each expression of each image; scores are answer probabilities."""
        frames = [Frame.of(image, self.loaded.processor, self._unit) for image in images]
        found = [Located.nothing(len(asked)) for asked in expressions]
        questions = [
            (number, place, self._question(expression))
            for number, asked in enumerate(expressions)
            for place, expression in enumerate(asked)
        ]
        for start in range(0, len(questions), self.batch_size):
            part = questions[start : start + self.batch_size]
            answers = self._writer.answer(
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
        if self._marks:
            expression = expression.replace(self._marks.stop, " ")
        # `replace`, since other braces in an expression or prompt are literal
        asked = self._prompt.replace("{unit}", WORDS[self._unit])
        return asked.replace("{expression}", expression)

    def _boxes(self, answer: Answer, frame: Frame) -> list[list[float]]:
        text, marks = answer.text, self._marks
        found = marks.read(text, self.loaded.processor) if marks else boxes_in(text)
        return [frame.to_image(box) for box in found]
