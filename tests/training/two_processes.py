"""Run by torchrun from test_distributed.py."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import toy

from clipvg.labels import LabelTable
from clipvg.training import Fit, evaluate, fit
from clipvg.training.trainer import Trainer


def stop_and_resume(labels: LabelTable, out: Path) -> float:
    """Largest difference of a training that is stopped in the middle of an epoch and resumed."""
    config = dataclasses.replace(toy.QUICK, batch_size=2, accumulate=2, checkpoint_steps=2)

    def train(place: Path | None) -> Fit:
        model = toy.make_model(dropout=0.2)
        return fit(model, labels, config=config, out=place, progress=False)

    undisturbed, update = train(None), Trainer.update

    def stopping(self: Trainer, loaded: Any) -> None:
        if self.step == 9:
            raise MemoryError
        update(self, loaded)

    Trainer.update = stopping
    with contextlib.suppress(MemoryError):
        train(out)
    Trainer.update = update
    result = train(out)
    if result.history is not None and dist.get_rank() == 0:
        np.testing.assert_array_equal(result.history, undisturbed.history)
    return toy.largest_difference(toy.state(result.model), toy.state(undisturbed.model))


def main(settings: dict[str, str]) -> None:
    torch.set_num_threads(1)
    images = Path(settings["images"])
    labels = toy.make_labels(images)
    validation = toy.make_labels(images, seed=1, prefix="v")
    model = toy.make_model(seed=int(torch.distributed.is_initialized()))
    half = dataclasses.replace(toy.QUICK, batch_size=toy.QUICK.batch_size // 2)
    out = Path(settings["out"]) / "run"
    result = fit(model, labels, config=half, validation=validation, out=out, progress=False)
    measured = evaluate(toy.make_model(), validation.select(np.arange(23))).to_dict()
    uneven = dataclasses.replace(half, batch_size=23, augment=True, drop_last=False, epochs=2)
    augmented = fit(toy.make_model(), labels.select(np.arange(23)), config=uneven, progress=False)
    grouped = dataclasses.replace(half, augment=True, group_by_image=3, epochs=2)
    shared = fit(toy.make_model(), labels, config=grouped, progress=False)
    resumed = stop_and_resume(labels, Path(settings["out"]) / "cut")
    flat = torch.cat([p.flatten() for p in toy.state(result.model).values()])
    other = flat.clone()
    dist.broadcast(other, 0)
    equal = torch.tensor(float(torch.equal(flat, other)))
    dist.all_reduce(equal, dist.ReduceOp.MIN)
    if dist.get_rank() == 0:
        content = {
            "last": toy.state(result.model),
            "metrics": result.metrics,
            "history": torch.from_numpy(np.array(result.history, dtype=np.float32)),
            "equal": bool(equal),
            "shared": toy.state(shared.model),
            "evaluation": {k: measured[k] for k in ("count", "acc_0.5", "mean_iou")},
            "augmented": augmented.metrics[-1]["loss"],
            "resumed": resumed,
        }
        torch.save(content, Path(settings["out"]) / "result.pt")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
