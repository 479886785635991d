"""Rescoring engine: many grounding models over many labels in one pass over the images."""

from clipvg.reliability.engine.run import score_models

__all__ = ["score_models"]
