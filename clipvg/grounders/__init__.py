"""Grounders that clipvg does not train: zero-shot CLIP and third-party models.

Each is also a measure of the same name, see `clipvg.measures`, and can predict boxes.
"""

from typing import TYPE_CHECKING

from clipvg.runtime.imports import lazy_imports

if TYPE_CHECKING:
    from clipvg.grounders.build import GROUNDERS as GROUNDERS
    from clipvg.grounders.build import build_grounder as build_grounder
    from clipvg.grounders.detector import Detector as Detector
    from clipvg.grounders.grounder import Grounder as Grounder
    from clipvg.grounders.heat import GradCam as GradCam
    from clipvg.grounders.heat import HeatMap as HeatMap
    from clipvg.grounders.reclip import ReCLIP as ReCLIP
    from clipvg.grounders.vlm import VisionLanguageModel as VisionLanguageModel

__getattr__, __all__ = lazy_imports(__name__)
