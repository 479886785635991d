"""Where a command's model runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from clipvg.reliability import GroundingMeasurer


def choose_device(name: str | None) -> torch.device:
    """Return the device of a name, see `clipvg.runtime.distributed.choose_device`."""
    from clipvg.runtime import distributed

    return distributed.choose_device(name)


def load_measurers(texts: Sequence[str], device: str | None) -> dict[str, GroundingMeasurer]:
    """Load the measurers of texts ``[NAME[@SOURCE]=]CKPT``, by name, on the device of a name.

    Raises:
        InputError: a text or a checkpoint that cannot be read, or two of one name; names are
            compared before anything is loaded.
    """
    from clipvg.model import load
    from clipvg.reliability import GroundingMeasurer, parse_measurer
    from clipvg.reliability.names import check_names

    specs = [parse_measurer(text) for text in texts]
    check_names(spec.name for spec in specs)
    place = choose_device(device)
    return {
        spec.name: GroundingMeasurer(
            load(spec.path).to(place), spec.name, trained_on=spec.trained_on
        )
        for spec in specs
    }
