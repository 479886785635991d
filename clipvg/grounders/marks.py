"""Prompts and answer parsers of models that write boxes as location tokens of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Boxes = list[list[float]]  # xyxy, as shares of the image

_GROUND = "<CAPTION_TO_PHRASE_GROUNDING>"
_FINE = 2000  # two units per Florence-2 bin, since its processor rounds bin centres down
_EDGES = re.compile(r"<loc(\d{4})>" * 4)
_BINS = 1024  # bins per side in PaliGemma


@dataclass(frozen=True)
class Marks:
    """Prompt and answer parser of one type of model.

    Attributes:
        prompt: prompt template, with ``{expression}``.
        stop: text that would end the expression early.
        read: returns the boxes of an answer, given the text and the processor.
    """

    prompt: str
    stop: str
    read: Callable[[str, Any], Boxes]


def _florence(text: str, processor: Any) -> Boxes:
    found = processor.post_process_generation(text=text, task=_GROUND, image_size=(_FINE, _FINE))
    return [[edge / _FINE for edge in box] for box in found[_GROUND]["bboxes"]]


def _paligemma(text: str, processor: Any) -> Boxes:
    """Parse edges written in the order top, left, bottom, right."""
    found = ([int(edge) / _BINS for edge in each] for each in _EDGES.findall(text))
    return [[left, top, right, bottom] for top, left, bottom, right in found]


def _kosmos(text: str, processor: Any) -> Boxes:
    """Parse boxes written as two cells of a 32 x 32 raster, which the processor decodes."""
    _, phrases = processor.post_process_generation(re.sub(r">\s+<", "><", text))
    return [[*box] for _, _, boxes in phrases for box in boxes]


#: Marks by model type, as given in the model's configuration.
MARKS: Mapping[str, Marks] = {
    "florence2": Marks(f"{_GROUND}{{expression}}", "<", _florence),
    "paligemma": Marks("detect {expression}", ";", _paligemma),
    "kosmos-2": Marks("<grounding><phrase> {expression}</phrase>", "<", _kosmos),
}
