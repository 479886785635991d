"""Curriculum: threshold search and self-paced adapting over any learner; imports no torch."""

from clipvg.curriculum.config import MSAConfig, SSAConfig
from clipvg.curriculum.holdout import hold_out
from clipvg.curriculum.material import identity_of_scores
from clipvg.curriculum.msa import MSAResult, Step, msa
from clipvg.curriculum.previous import Previous
from clipvg.curriculum.protocols import Fit, Learner, ModelStore
from clipvg.curriculum.run import Run, Stage, Workers
from clipvg.curriculum.ssa import SSAResult, ssa
from clipvg.curriculum.threshold import ThresholdSearch, find_threshold

__all__ = [
    "Fit",
    "Learner",
    "MSAConfig",
    "MSAResult",
    "ModelStore",
    "Previous",
    "Run",
    "SSAConfig",
    "SSAResult",
    "Stage",
    "Step",
    "ThresholdSearch",
    "Workers",
    "find_threshold",
    "hold_out",
    "identity_of_scores",
    "msa",
    "ssa",
]
