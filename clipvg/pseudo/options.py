"""How labels are generated: the preset and its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from clipvg.runtime.fields import check_fields

Preset = Literal["default", "published"]
PUBLISHED_SEED = 20211024


@dataclass(frozen=True)
class Options:
    """How labels are made.

    Args:
        preset: "published" follows the published generators to the letter, faults included.
        min_score: lowest score of a detection that is described.
        objects: number of objects that the template source describes in an image.
        per_image: largest number of labels that a source gives an image.
        seed: seed of the draw among the candidates; by default 0, or 20211024 with the published
            preset.
        ambiguous: drop or keep expressions that fit several boxes of their image.
        pipeline: spaCy pipeline that parses captions, by name or folder; by default spaCy's
            English one where it is installed, else rules.
    """

    preset: Preset = "default"
    min_score: Annotated[float, (0, 1)] = 0.0
    objects: Annotated[int, (1, 10**6)] = 3
    per_image: Annotated[int, (1, 10**6)] = 6
    seed: Annotated[int | None, (0, 2**63 - 1)] = None
    ambiguous: Literal["drop", "keep"] = "drop"
    pipeline: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, "options of generating")

    @property
    def drawn_with(self) -> int:
        """The seed of the draw."""
        if self.seed is not None:
            return self.seed
        return PUBLISHED_SEED if self.preset == "published" else 0
