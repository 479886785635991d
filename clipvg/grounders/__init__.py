"""Grounders that were not trained here: zero-shot ones, and models of others.

Each is a measure by its name, see `clipvg.measures`, which also says where it would place a box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipvg.errors import InputError, near_matches
from clipvg.measures.specs import build_measure, parse_measure, with_option

if TYPE_CHECKING:
    from clipvg.grounders.grounder import Grounder


#: Names of grounders, each of them that of a measure too.
GROUNDERS = ("detector", "vlm")


def build_grounder(text: str, *, device: str | None = None) -> Grounder:
    """Make a grounder from text: ``[COLUMN=]NAME[,option=value,...]``, as measures are written.

    Args:
        text: e.g. ``"detector,model=IDEA-Research/grounding-dino-tiny"``.
        device: where it runs, unless the text says it.

    Raises:
        InputError: there is no such grounder or option, or its model cannot be had.
    """
    from clipvg.grounders.grounder import Grounder

    spec = parse_measure(text)
    if ":" not in spec.method and spec.method not in GROUNDERS:
        raise InputError(
            f"no grounder {spec.method!r}: {near_matches(spec.method, GROUNDERS)}; one of your own "
            "is named package.module:Class"
        )
    made = build_measure(with_option(spec, "device", device), {})
    if not isinstance(made, Grounder):
        raise InputError(f"{spec.method!r} scores labels and places no boxes; name a grounder")
    return made
