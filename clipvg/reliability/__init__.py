"""Reliability of pseudo-labels: measurers, score matrix, histogram, rescoring."""

from clipvg.reliability.histogram import Distribution, histogram, kept
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import (
    BoxPredictor,
    Context,
    GroundingMeasurer,
    Measurer,
    Scores,
    measure,
)
from clipvg.reliability.names import NamedCheckpoint, default_name, parse_measurer
from clipvg.reliability.score import score_labels

__all__ = [
    "BoxPredictor",
    "Context",
    "Distribution",
    "GroundingMeasurer",
    "Measurer",
    "NamedCheckpoint",
    "ScoreMatrix",
    "Scores",
    "default_name",
    "histogram",
    "kept",
    "measure",
    "parse_measurer",
    "score_labels",
]
