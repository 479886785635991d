"""Rescoring engine: many grounding models over many labels in one pass over the images.

The parts, in the order in which a label meets them: `plan` (labels by image), `encode` (image and
text towers), `clipvg.model.fast` (tokens projected once, fusion encoders without padding),
`targets` (the labels' boxes and expressions), `engine` (the pass).
"""

from clipvg.rescoring.config import STAGES as STAGES
from clipvg.rescoring.config import EngineConfig as EngineConfig
from clipvg.rescoring.config import Optimisations as Optimisations
from clipvg.rescoring.config import Precision as Precision
from clipvg.rescoring.config import Stats as Stats
from clipvg.rescoring.engine import Engine as Engine
from clipvg.rescoring.engine import ShardScores as ShardScores
from clipvg.rescoring.plan import Plan as Plan
from clipvg.rescoring.plan import Shard as Shard
