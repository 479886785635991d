"""Unsupervised visual grounding with CLIP, after CLIP-VG (arXiv 2305.08685).

Public names are imported on first use, so `import clipvg` does not import torch.
"""

from typing import TYPE_CHECKING

from clipvg.runtime.imports import lazy_imports

if TYPE_CHECKING:
    from clipvg.api import adapt as adapt
    from clipvg.api import evaluate as evaluate
    from clipvg.api import load as load
    from clipvg.api import score as score
    from clipvg.api import train as train
    from clipvg.curriculum import find_threshold as find_threshold
    from clipvg.errors import InputError as InputError
    from clipvg.labels import LabelTable as LabelTable
    from clipvg.labels import check_labels as check_labels
    from clipvg.labels import read_labels as read_labels
    from clipvg.model import GroundingModel as GroundingModel
    from clipvg.model import create_model as create_model
    from clipvg.pseudo.generate import generate as generate
    from clipvg.pseudo.reading import read_observations as read_observations
    from clipvg.reliability import ScoreMatrix as ScoreMatrix

__version__ = "0.1.0"

__getattr__, __all__ = lazy_imports(__name__)
