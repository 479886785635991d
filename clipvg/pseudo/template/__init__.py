"""The template source: expressions composed of class, attribute, place and clothes."""

from __future__ import annotations

from clipvg.pseudo.template.default import default
from clipvg.pseudo.template.published import published

NEEDS = {"default": ("detections",), "published": ("detections",)}
SEES_FAINT = True

__all__ = ["NEEDS", "SEES_FAINT", "default", "published"]
