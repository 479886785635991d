"""Grounders that were not trained here: zero-shot ones, and models of others.

Each is a measure by its name, see `clipvg.measures`, which also says where it would place a box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipvg.errors import InputError, near_matches
from clipvg.measures.specs import build_measure, parse_measure, with_option
from clipvg.runtime.imports import lazy_names

if TYPE_CHECKING:
    from clipvg.grounders.detector import Detector
    from clipvg.grounders.grounder import Grounder
    from clipvg.grounders.heat import GradCam, HeatMap
    from clipvg.grounders.reclip import ReCLIP
    from clipvg.grounders.vlm import VisionLanguageModel
    from clipvg.pseudo.observations import ObservationTable


#: Names of grounders, each of them that of a measure too.
GROUNDERS = ("reclip", "heatmap", "gradcam", "detector", "vlm")


def build_grounder(
    text: str,
    *,
    device: str | None = None,
    backbone: str | None = None,
    observations: ObservationTable | None = None,
) -> Grounder:
    """Make a grounder from text: ``[COLUMN=]NAME[,option=value,...]``, as measures are written.

    Args:
        text: e.g. ``"detector,model=IDEA-Research/grounding-dino-tiny"``.
        device: where it runs, unless the text says it.
        backbone: the CLIP of a grounder that has nothing else.
        observations: boxes of the images, for a grounder that chooses among such.

    Raises:
        InputError: there is no such grounder or option, it takes no backbone or observations, or
            its model cannot be had.
    """
    from clipvg.grounders.grounder import Grounder

    spec = parse_measure(text)
    if ":" not in spec.method and spec.method not in GROUNDERS:
        raise InputError(
            f"no grounder {spec.method!r}: {near_matches(spec.method, GROUNDERS)}; one of your own "
            "is named package.module:Class"
        )
    given: dict[str, Any] = {"backbone": backbone, "observations": observations}
    for option, value in given.items():
        if value is None:
            continue
        given_to, spec = spec, with_option(spec, option, value)
        if spec is given_to:
            raise InputError(
                f"grounder {text!r} takes no {option}, or says it already; leave it out"
            )
    made = build_measure(with_option(spec, "device", device), {})
    if not isinstance(made, Grounder):
        raise InputError(f"{spec.method!r} scores labels and places no boxes; name a grounder")
    return made


__getattr__ = lazy_names(
    __name__,
    {
        "Grounder": "grounder",
        "ReCLIP": "reclip",
        "HeatMap": "heat",
        "GradCam": "heat",
        "Detector": "detector",
        "VisionLanguageModel": "vlm",
    },
)

__all__ = [
    "GROUNDERS",
    "Detector",
    "GradCam",
    "Grounder",
    "HeatMap",
    "ReCLIP",
    "VisionLanguageModel",
    "build_grounder",
]
