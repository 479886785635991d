"""Training and evaluation of grounding models."""

from typing import TYPE_CHECKING

from clipvg.runtime.imports import lazy_imports

if TYPE_CHECKING:
    from clipvg.features import FeatureCache as FeatureCache
    from clipvg.training.config import FitConfig as FitConfig
    from clipvg.training.evaluate import Evaluation as Evaluation
    from clipvg.training.evaluate import PredictedBoxes as PredictedBoxes
    from clipvg.training.evaluate import evaluate as evaluate
    from clipvg.training.evaluate import predict_labels as predict_labels
    from clipvg.training.fit import fit as fit
    from clipvg.training.fit import fit_many as fit_many
    from clipvg.training.learner import GroundingLearner as GroundingLearner
    from clipvg.training.losses import box_losses as box_losses
    from clipvg.training.quality import fit_quality as fit_quality
    from clipvg.training.trainer import Fit as Fit

__getattr__, __all__ = lazy_imports(__name__)
