"""Training and evaluation of grounding models."""

from clipvg.features import FeatureCache
from clipvg.training.config import FitConfig
from clipvg.training.evaluate import (
    Evaluation,
    Predictions,
    evaluate,
    predict_boxes,
    predict_labels,
)
from clipvg.training.fit import Fit, fit, fit_many
from clipvg.training.learner import GroundingLearner
from clipvg.training.losses import box_losses

__all__ = [
    "Evaluation",
    "FeatureCache",
    "Fit",
    "FitConfig",
    "GroundingLearner",
    "Predictions",
    "box_losses",
    "evaluate",
    "fit",
    "fit_many",
    "predict_boxes",
    "predict_labels",
]
