"""How labels are generated: the preset and its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clipvg.errors import InputError

Preset = Literal["default", "published"]
PRESETS: tuple[Preset, ...] = ("default", "published")
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
    min_score: float = 0.0
    objects: int = 3
    per_image: int = 6
    seed: int | None = None
    ambiguous: Literal["drop", "keep"] = "drop"
    pipeline: str | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise InputError(f"preset {self.preset!r}: choose from {', '.join(PRESETS)}")
        if self.ambiguous not in ("drop", "keep"):
            raise InputError(f"ambiguous {self.ambiguous!r}: choose from drop, keep")
        for name in ("objects", "per_image"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: expected a whole number from 1")
        if not 0 <= self.min_score <= 1:
            raise InputError(f"min_score {self.min_score}: expected a number from 0 to 1")

    @property
    def drawn_with(self) -> int:
        """The seed of the draw."""
        if self.seed is not None:
            return self.seed
        return PUBLISHED_SEED if self.preset == "published" else 0
