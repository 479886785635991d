"""Public Python API, composed of the layers below: load, read, train, score, adapt, evaluate.

`train` and `adapt` write a run directory; called again with the same arguments, they continue it.
"""

from clipvg.api.adapt_run import AdaptResult as AdaptResult
from clipvg.api.adapt_run import Curriculum as Curriculum
from clipvg.api.adapt_run import adapt as adapt
from clipvg.api.models import evaluate as evaluate
from clipvg.api.models import load as load
from clipvg.api.models import score as score
from clipvg.api.run import RunOptions as RunOptions
from clipvg.api.run import TrainResult as TrainResult
from clipvg.api.run import train as train
from clipvg.curriculum import Sources as Sources
from clipvg.labels import read_labels as read_labels
