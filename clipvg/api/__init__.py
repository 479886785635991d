"""The public face: load, read, train, score, adapt, evaluate. Composes the layers below.

Training and adapting write a run directory; called again with the same arguments they continue it.
"""

from clipvg.api.adapt_run import AdaptResult, Curriculum, adapt
from clipvg.api.models import evaluate, load, score
from clipvg.api.run import RunOptions
from clipvg.api.train_run import TrainResult, train
from clipvg.curriculum import Sources
from clipvg.labels import read_labels

__all__ = [
    "AdaptResult",
    "Curriculum",
    "RunOptions",
    "Sources",
    "TrainResult",
    "adapt",
    "evaluate",
    "load",
    "read_labels",
    "score",
    "train",
]
