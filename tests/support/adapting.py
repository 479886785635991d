"""`clipvg.adapt` with an untrained tiny model, quick and quiet."""

from __future__ import annotations

from pathlib import Path

from clipvg.api import AdaptResult, RunOptions, adapt
from clipvg.labels import LabelTable
from clipvg.model import ModelOptions
from clipvg.training import FitConfig
from support.tiny import make_labels

SMALL = ModelOptions(pretrained=None, width=32, layers=2, heads=4, feedforward=32)
QUIET = RunOptions(progress=False, report=False)


def run(labels: LabelTable, out: Path, **options: object) -> AdaptResult:
    """Adapt with an untrained tiny CLIP, four steps per training."""
    training = FitConfig(steps=4, batch_size=8, lr=1e-3, augment=False, drop_last=False)
    labels = labels.with_column("source", ["template"] * len(labels))
    return adapt(
        labels,
        out=out,
        backbone="clipvg-tiny",
        model=SMALL,
        training=training,
        **{"run": QUIET, **options},
    )


def run_on(images: str, out: str) -> None:
    """Adapt to labels on eight images, created in a folder."""
    run(make_labels(Path(images), 8), Path(out))
