"""One `clipvg.adapt` with the tiny model: ``python adapt_program.py IMAGES OUT WRITE...``.

For each WRITE a child process is killed at its n-th write (0: never); children share the imports.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from curriculum.toy import die_at
from reliability.scenery import make_labels

from clipvg.api import AdaptResult, RunOptions, adapt
from clipvg.labels import LabelTable
from clipvg.model import ModelOptions
from clipvg.training import FitConfig

SMALL = ModelOptions(pretrained=None, width=32, layers=2, heads=4, feedforward=32)
QUIET = RunOptions(progress=False, report=False)


def run(labels: LabelTable, out: Path, **options: object) -> AdaptResult:
    """Adapt with an untrained tiny CLIP, four steps a training."""
    training = FitConfig(steps=4, batch_size=8, lr=1e-3, augment=False, drop_last=False)
    labels = labels.with_column("source", ["template"] * len(labels))
    return adapt(
        labels,
        out=out,
        backbone="clipvg-tiny",
        model=SMALL,
        training=training,
        **{"run": QUIET, **options},  # type: ignore[arg-type]
    )


if __name__ == "__main__":
    images, out = Path(sys.argv[1]), Path(sys.argv[2])
    for write in map(int, sys.argv[3:]):
        child = os.fork()
        if child == 0:
            if write:
                die_at(write)
            run(make_labels(images, num_images=8), out)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
