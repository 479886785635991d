"""Reliability of pseudo-labels: measurers, score matrix, histogram, rescoring."""

from clipvg.reliability.histogram import Distribution as Distribution
from clipvg.reliability.histogram import histogram as histogram
from clipvg.reliability.histogram import kept as kept
from clipvg.reliability.matrix import ScoreMatrix as ScoreMatrix
from clipvg.reliability.measurer import BoxPredictor as BoxPredictor
from clipvg.reliability.measurer import Context as Context
from clipvg.reliability.measurer import GroundingMeasurer as GroundingMeasurer
from clipvg.reliability.measurer import Measurer as Measurer
from clipvg.reliability.measurer import Scores as Scores
from clipvg.reliability.measurer import measure as measure
from clipvg.reliability.names import NamedCheckpoint as NamedCheckpoint
from clipvg.reliability.names import default_name as default_name
from clipvg.reliability.names import parse_measurer as parse_measurer
from clipvg.reliability.score import score_labels as score_labels
