"""Rescoring engine: many grounding models over many labels in one pass over the images.

The parts, in the order in which a label meets them: `plan` (labels by image), `images` (decode,
image tower), `text` (text tower, cache), `bank` (tokens projected once), `stack` (fusion encoders
and heads of all measurers at once), `iou` (reliability and histogram), `run` (the pass).
"""

from clipvg.reliability.engine.config import EngineConfig, Optimisations, Precision
from clipvg.reliability.engine.plan import Plan
from clipvg.reliability.engine.run import Engine, Shard, ShardScores
from clipvg.reliability.engine.stats import STAGES, Stats

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
