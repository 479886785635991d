"""Models that mark places in words of their own: what each is asked, and what its answers say."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Boxes = list[list[float]]  # xyxy, as shares of the image

_GROUND = "<CAPTION_TO_PHRASE_GROUNDING>"
_FINE = 2000  # two a bin of Florence-2, whose middle its processor rounds down
_EDGES = re.compile(r"<loc(\d{4})>" * 4)
_BINS = 1024  # of a side, in which PaliGemma counts


@dataclass(frozen=True)
class Marks:
    """The words of one kind of model.

    Attributes:
        prompt: what it is asked, with ``{expression}``.
        stop: what would end the expression before its end.
        read: returns the boxes of an answer; it gets the processor too.
    """

    prompt: str
    stop: str
    read: Callable[[str, Any], Boxes]


def _florence(text: str, processor: Any) -> Boxes:
    found = processor.post_process_generation(text=text, task=_GROUND, image_size=(_FINE, _FINE))
    return [[edge / _FINE for edge in box] for box in found[_GROUND]["bboxes"]]


def _paligemma(text: str, processor: Any) -> Boxes:
    """Edges are written top, left, bottom, right."""
    found = ([int(edge) / _BINS for edge in each] for each in _EDGES.findall(text))
    return [[left, top, right, bottom] for top, left, bottom, right in found]


def _kosmos(text: str, processor: Any) -> Boxes:
    """Two cells of a raster of 32 x 32, which the processor knows how to read."""
    _, phrases = processor.post_process_generation(re.sub(r">\s+<", "><", text))
    return [[*box] for _, _, boxes in phrases for box in boxes]


#: By the type of a model, as its configuration has it.
MARKS: Mapping[str, Marks] = {
    "florence2": Marks(f"{_GROUND}{{expression}}", "<", _florence),
    "paligemma": Marks("detect {expression}", ";", _paligemma),
    "kosmos-2": Marks("<grounding><phrase> {expression}</phrase>", "<", _kosmos),
}
