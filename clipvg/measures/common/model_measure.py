"""Base class of measures that query one grounding model about images."""

from __future__ import annotations

from dataclasses import field

from clipvg.measures.common.measure import Measure
from clipvg.model import GroundingModel
from clipvg.reliability.image_measure import ImageMeasure


class ModelMeasure(ImageMeasure, Measure):
    """A measure that queries one grounding model about images.

    Args:
        model: the grounding model.
    """

    model: GroundingModel = field(kw_only=False, repr=False)

    @property
    def asks(self) -> tuple[GroundingModel, ...]:
        """The model."""
        return (self.model,)
