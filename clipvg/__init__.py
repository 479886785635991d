"""Unsupervised visual grounding with CLIP, after CLIP-VG (arXiv 2305.08685).

Every public name is imported at first use, so `import clipvg` costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipvg.api import adapt, evaluate, load, score, train
    from clipvg.curriculum import find_threshold
    from clipvg.labels import LabelTable, read_labels
    from clipvg.model import GroundingModel, create_model
    from clipvg.reliability import ScoreMatrix

__version__ = "0.1.0"

_MODULE_OF = {
    "GroundingModel": "clipvg.model",
    "LabelTable": "clipvg.labels",
    "ScoreMatrix": "clipvg.reliability",
    "adapt": "clipvg.api",
    "create_model": "clipvg.model",
    "evaluate": "clipvg.api",
    "find_threshold": "clipvg.curriculum",
    "load": "clipvg.api",
    "read_labels": "clipvg.labels",
    "score": "clipvg.api",
    "train": "clipvg.api",
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
    "load",
    "read_labels",
    "score",
    "train",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'clipvg' has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
