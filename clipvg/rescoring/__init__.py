"""Rescoring engine: many grounding models over many labels in one pass over the images.

The parts, in the order in which a label meets them: `plan` (labels by image), `images` (decode,
image tower), `text` (text tower, cache), `clipvg.model.fast` (tokens projected once, fusion
encoders without padding), `targets` (the labels' boxes and expressions), `engine` (the pass).
"""

from clipvg.rescoring.config import EngineConfig, Optimisations, Precision
from clipvg.rescoring.engine import Engine, ShardScores
from clipvg.rescoring.plan import Plan, Shard
from clipvg.rescoring.stats import STAGES, Stats

__all__ = [
    "STAGES",
    "Engine",
    "EngineConfig",
    "Optimisations",
    "Plan",
    "Precision",
    "Shard",
    "ShardScores",
    "Stats",
]
