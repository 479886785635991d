"""Save tiny transformers models with random weights, by the library's own classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from support.pretrained import detectors, writers

MODELS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "detr": detectors.detr,
    "rt-detr": detectors.rt_detr,
    "d-fine": detectors.d_fine,
    "grounding-dino": detectors.grounding_dino,
    "owlv2": detectors.owlv2,
    "omdet-turbo": detectors.omdet_turbo,
    "blip": writers.blip,
    "git": writers.git,
    "florence-2": writers.florence_2,
    "llava": writers.llava,
    "qwen2.5-vl": writers.qwen,
    "paligemma": writers.paligemma,
    "kosmos-2": writers.kosmos_2,
}
WRITERS = ("florence-2", "llava", "qwen2.5-vl", "paligemma", "kosmos-2")


def save(name: str, folder: Path) -> str:
    """Write a tiny model and its processor; return the folder."""
    torch.manual_seed(0)
    for part in MODELS[name]():
        part.save_pretrained(folder)
    return str(folder)
