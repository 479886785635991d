"""Unsupervised visual grounding with CLIP, after CLIP-VG (arXiv 2305.08685).

Every public name is imported at first use, so `import clipvg` costs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipvg.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from clipvg.api import adapt, evaluate, load, score, train
    from clipvg.curriculum import find_threshold
    from clipvg.labels import LabelTable, read_labels
    from clipvg.model import GroundingModel, create_model
    from clipvg.pseudo.generate import generate
    from clipvg.pseudo.reading import read_observations
    from clipvg.reliability import ScoreMatrix

__version__ = "0.1.0"

_MODULE_OF = {
    "GroundingModel": "model",
    "LabelTable": "labels",
    "ScoreMatrix": "reliability",
    "adapt": "api",
    "create_model": "model",
    "evaluate": "api",
    "find_threshold": "curriculum",
    "generate": "pseudo.generate",
    "load": "api",
    "read_labels": "labels",
    "read_observations": "pseudo.reading",
    "score": "api",
    "train": "api",
}

__all__ = [
    "GroundingModel",
    "LabelTable",
    "ScoreMatrix",
    "__version__",
    "adapt",
    "create_model",
    "evaluate",
    "find_threshold",
    "generate",
    "load",
    "read_labels",
    "read_observations",
    "score",
    "train",
]

__getattr__ = lazy_names(__name__, _MODULE_OF)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
