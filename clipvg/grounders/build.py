"""Build grounders from their text specifications."""

from __future__ import annotations

from typing import Any

from clipvg.errors import InputError, near_matches
from clipvg.grounders.grounder import Grounder
from clipvg.measures.specs import build_measure, parse_measure, with_option
from clipvg.pseudo.observations import ObservationTable
from clipvg.runtime.distributed import Device

#: Names of grounders, each also the name of a measure.
GROUNDERS = ("reclip", "heatmap", "gradcam", "detector", "vlm")


def build_grounder(
    text: str,
    *,
    device: Device = None,
    backbone: str | None = None,
    observations: ObservationTable | None = None,
) -> Grounder:
    """Build a grounder from ``[COLUMN=]NAME[,option=value,...]``, the syntax of measures.

    Args:
        text: e.g. ``"detector,model=IDEA-Research/grounding-dino-tiny"``.
        device: where it runs, unless the text sets it.
        backbone: the CLIP of a zero-shot grounder.
        observations: boxes of the images, for a grounder that chooses among observed boxes.

    Raises:
        InputError: there is no such grounder or option, it does not take the given backbone or
            observations, or its model cannot be loaded.
    """
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
                f"grounder {text!r} takes no {option}, or already sets it; leave it out"
            )
    place = None if device is None else str(device)
    made = build_measure(with_option(spec, "device", place), {})
    if not isinstance(made, Grounder):
        raise InputError(f"{spec.method!r} scores labels and places no boxes; name a grounder")
    return made
