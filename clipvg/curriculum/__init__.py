"""Curriculum: threshold search and self-paced adapting over any learner; imports no torch."""

from clipvg.curriculum.calibrate import calibrate, calibrated_threshold, soft_weights
from clipvg.curriculum.config import Beyond, MSAConfig, SSAConfig
from clipvg.curriculum.correction import Agreed, agreed_boxes
from clipvg.curriculum.fusing import fuse
from clipvg.curriculum.holdout import hold_out
from clipvg.curriculum.material import identity_of_scores
from clipvg.curriculum.msa import MSAResult, msa
from clipvg.curriculum.previous import Previous
from clipvg.curriculum.protocols import Fit, Learner, ModelStore
from clipvg.curriculum.run import Run, Stage, Workers
from clipvg.curriculum.ssa import SSAResult, ssa
from clipvg.curriculum.threshold import ThresholdSearch, find_threshold
from clipvg.curriculum.walk import Step

__all__ = [
    "Agreed",
    "Beyond",
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
    "agreed_boxes",
    "calibrate",
    "calibrated_threshold",
    "find_threshold",
    "fuse",
    "hold_out",
    "identity_of_scores",
    "msa",
    "soft_weights",
    "ssa",
]
