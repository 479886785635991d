"""Measures that look at images and ask one model."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from clipvg.measures.common.options import Measure
from clipvg.reliability.image_measure import ImageMeasure

if TYPE_CHECKING:
    from clipvg.model import GroundingModel


class ModelMeasure(ImageMeasure, Measure):
    """A measure that looks at images and asks one model."""

    model: GroundingModel = field(kw_only=False, repr=False)

    @property
    def asks(self) -> tuple[GroundingModel, ...]:
        """The model."""
        return (self.model,)
