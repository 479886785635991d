"""What training and adapting share: the model of a run and its directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clipvg.curriculum import Run, Workers
from clipvg.labels import LabelTable
from clipvg.model import GroundingConfig, GroundingModel, create_model
from clipvg.training import distributed

Device = str | torch.device | None
AUTO = "auto"
_TINY = {"backbone": "clipvg-tiny", "pretrained": "scenes-v1"}


def choose_device(device: Device) -> torch.device:
    """Return a device; a GPU where there is one when None."""
    return distributed.default_device() if device is None else torch.device(device)


def open_run(
    out: str | Path,
    config: Mapping[str, Any],
    labels: LabelTable,
    validation: LabelTable | None,
    device: Device,
    further: Mapping[str, Any] | None = None,
) -> Run:
    """Open a run directory, together with the other processes of `torchrun`; see `Run`."""
    world = distributed.join(choose_device(device))
    workers = Workers(world.is_main, lambda: distributed.barrier(world))
    config = {**config, "processes": world.size}  # they share out each batch
    return Run(
        out, config=config, labels=labels, validation=validation, workers=workers, further=further
    )


def recorded_command(run: Run) -> str:
    """Return what was typed when the run was made; "" where that is not known."""
    path = run.folder / "summary.json"
    return str(json.loads(path.read_text()).get("command", "")) if path.exists() else ""


def model_config(
    labels: LabelTable, backbone: str, pretrained: str | None, model: Mapping[str, Any] | None
) -> GroundingConfig:
    """Return the configuration of a model to be trained on labels."""
    if pretrained == AUTO:
        pretrained = _TINY["pretrained"] if backbone == _TINY["backbone"] else "openai"
    sources = sorted(filter(None, set(labels.sources())))
    fields = {"backbone": backbone, "pretrained": pretrained, "trained_on": sources}
    return GroundingConfig.from_dict({**fields, **(model or {})})


def make_model(settings: GroundingConfig, seed: int, device: torch.device) -> GroundingModel:
    """Return a fresh model whose initial weights the seed decides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_model(**settings.to_dict()).to(device)
