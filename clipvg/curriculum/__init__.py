"""Curriculum: threshold search and self-paced adapting over any learner; imports no torch."""

from clipvg.curriculum.adapted import Adapted
from clipvg.curriculum.beyond.calibrate import calibrated_threshold, soft_weights
from clipvg.curriculum.beyond.config import Beyond
from clipvg.curriculum.beyond.correction import Agreed, agreed_boxes
from clipvg.curriculum.beyond.folds import split_folds
from clipvg.curriculum.beyond.fusion import fuse
from clipvg.curriculum.config import MSAConfig, SSAConfig
from clipvg.curriculum.continued import Previous, Sources
from clipvg.curriculum.msa import msa
from clipvg.curriculum.protocols import BoxMeasurer, Fit, Fitted, Learner
from clipvg.curriculum.split import identity_of_scores
from clipvg.curriculum.ssa import ssa
from clipvg.curriculum.summary import RunSummary, Step
from clipvg.curriculum.threshold import SearchStrategy, ThresholdSearch, find_threshold
from clipvg.curriculum.validation import hold_out
from clipvg.runs.run import Run
from clipvg.runs.stage import Stage, Workers

__all__ = [
    "Adapted",
    "Agreed",
    "Beyond",
    "BoxMeasurer",
    "Fit",
    "Fitted",
    "Learner",
    "MSAConfig",
    "Previous",
    "Run",
    "RunSummary",
    "SSAConfig",
    "SearchStrategy",
    "Sources",
    "Stage",
    "Step",
    "ThresholdSearch",
    "Workers",
    "agreed_boxes",
    "calibrated_threshold",
    "find_threshold",
    "fuse",
    "hold_out",
    "identity_of_scores",
    "msa",
    "soft_weights",
    "split_folds",
    "ssa",
]
