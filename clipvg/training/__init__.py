"""Training and evaluation of grounding models."""

from typing import TYPE_CHECKING

from clipvg.runtime.lazy import lazy_names

if TYPE_CHECKING:
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

__getattr__ = lazy_names(
    __name__,
    {
        "Evaluation": "evaluate",
        "FeatureCache": "clipvg.features",
        "Fit": "fit",
        "FitConfig": "config",
        "GroundingLearner": "learner",
        "Predictions": "evaluate",
        "box_losses": "losses",
        "evaluate": "evaluate",
        "fit": "fit",
        "fit_many": "fit",
        "predict_boxes": "evaluate",
        "predict_labels": "evaluate",
    },
)
