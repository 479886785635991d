"""Where a command's model runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipvg.errors import InputError

if TYPE_CHECKING:
    import torch

    from clipvg.reliability import GroundingMeasurer


def choose_device(name: str | None) -> torch.device:
    """Return the device of a name; without one this process's GPU where there is one, else the CPU.

    Raises:
        InputError: no such device here.
    """
    import torch

    from clipvg.runtime.distributed import default_device

    if name is None:
        return default_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = "cpu" + "".join(f", cuda:{i}" for i in range(torch.cuda.device_count()))
        raise InputError(f"--device {name!r} is not available here; choose from {here}") from error
    return device


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
