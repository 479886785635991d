"""Curriculum: threshold search and self-paced adapting over any learner; imports no torch."""

from clipvg.curriculum.config import SSAConfig
from clipvg.curriculum.holdout import hold_out
from clipvg.curriculum.protocols import Fit, Learner, ModelStore
from clipvg.curriculum.run import Run, Stage, Workers
from clipvg.curriculum.ssa import SSAResult, ssa
from clipvg.curriculum.threshold import ThresholdSearch, find_threshold

__all__ = [
    "Fit",
    "Learner",
    "ModelStore",
    "Run",
    "SSAConfig",
    "SSAResult",
    "Stage",
    "ThresholdSearch",
    "Workers",
    "find_threshold",
    "hold_out",
    "ssa",
]
