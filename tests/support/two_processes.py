"""Tasks of two processes that work as one: train, score, run commands. See `processes.as_two`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image

from clipvg.cli import main, processes
from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.measures.specs import build_measures
from clipvg.reliability import Context, score_labels
from clipvg.reliability.image_measure import measure_together
from clipvg.rescoring import plan
from clipvg.runtime import distributed
from clipvg.training import Fit, evaluate, fit
from clipvg.training.trainer import Trainer
from support import fits
from support.tiny import make_model

METHODS = ["likelihood", "attention_mass", "agreement", "knn,k=3", "region", "gradient_norm"]
METHODS += ["rank_mean,of=a+knn", "ambiguity"]


@contextlib.contextmanager
def joined() -> Iterator[int]:
    """Join this process to the group of both; yield its rank."""
    torch.set_num_threads(1)
    yield distributed.join(torch.device("cpu")).rank
    dist.destroy_process_group()


def stop_and_resume(labels: LabelTable, out: Path) -> float:
    """Return how far a training differs if it is stopped in the middle of an epoch and resumed."""
    config = dataclasses.replace(fits.QUICK, batch_size=2, accumulate=2, checkpoint_steps=2)

    def train(place: Path | None) -> Fit:
        model = fits.make_model(dropout=0.2)
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
    return fits.difference(result.model, undisturbed.model)


def train(images: str, out: str) -> None:
    """Train as one and resume; write the results to result.pt in the folder `out`."""
    with joined() as rank:
        _train(Path(images), Path(out), rank)


def _train(images: Path, folder: Path, rank: int) -> None:
    labels, validation = fits.make_labels(images)
    model = fits.make_model(seed=rank)  # the first process's weights count
    half = dataclasses.replace(fits.QUICK, batch_size=fits.QUICK.batch_size // 2)
    out = folder / "run"
    result = fit(model, labels, config=half, validation=validation, out=out, progress=False)
    measured = evaluate(fits.make_model(), validation.select(np.arange(23))).to_dict()
    uneven = dataclasses.replace(half, batch_size=23, augment=True, drop_last=False, epochs=2)
    augmented = fit(fits.make_model(), labels.select(np.arange(23)), config=uneven, progress=False)
    grouped = dataclasses.replace(half, augment=True, group_by_image=3, epochs=2)
    shared = fit(fits.make_model(), labels, config=grouped, progress=False)
    resumed = stop_and_resume(labels, folder / "cut")
    flat = torch.cat([p.flatten() for p in fits.state(result.model).values()])
    other = flat.clone()
    dist.broadcast(other, 0)
    equal = torch.tensor(float(torch.equal(flat, other)))
    dist.all_reduce(equal, dist.ReduceOp.MIN)
    if rank == 0:
        content = {
            "last": fits.state(result.model),
            "metrics": result.metrics,
            "history": torch.from_numpy(np.array(result.history, dtype=np.float32)),
            "equal": bool(equal),
            "shared": fits.state(shared.model),
            "evaluation": {k: measured[k] for k in ("count", "acc_0.5", "mean_iou")},
            "augmented": augmented.metrics[-1]["loss"],
            "resumed": resumed,
        }
        torch.save(content, folder / "result.pt")


def score(folder: str) -> None:
    """Score and measure the labels of a folder; write scores, reasons and refusals by rank."""
    with joined() as rank:
        plan.IMAGES_PER_SHARD = 2
        _score(Path(folder), rank)


def _score(folder: Path, rank: int) -> None:
    labels = read_labels(folder / "labels.parquet", images=folder)
    models = {"a": make_model(1), "b": make_model(2)}
    measures = build_measures(METHODS, models)
    found = {
        "memory": score_labels(labels, models),
        "store": score_labels(labels, models, store=folder / "store"),
        "again": score_labels(labels, models, store=folder / "store"),
        "measures": score_labels(labels, {**models, **measures}),
    }
    refused = [
        _refusal(score_labels, labels, {"a": models["a"]}, on_error="raise", store=store)
        for store in (None, folder / "store", folder / "new")
    ]
    first = build_measures(METHODS[:2], models)
    refused.append(_refusal(measure_together, first, labels, Context(on_error="raise")))
    np.savez(folder / f"{rank}.npz", **{k: v.scores for k, v in found.items()})
    reasons = {name: sorted(matrix.reasons.items()) for name, matrix in found.items()}
    (folder / f"{rank}.json").write_text(json.dumps([reasons, refused]))


def command(words: list[str], fault: str, rank: int) -> int:
    """Run a command; the process of a rank suffers the fault when it opens an image.

    A training looks at all images before it begins: the fault comes after that.
    """
    torch.set_num_threads(1)
    processes.SILENT_BEATS, plan.IMAGES_PER_SHARD = 3, 2
    opened, first = [], 12 if words[0] == "train" else 2
    original = Image.open

    def open_image(*arguments: Any, **options: Any) -> Any:
        opened.append(1)
        if len(opened) >= first and fault == "broken":
            raise OSError("broken data stream")
        if len(opened) == first:
            os.kill(os.getpid(), {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}[fault])
        return original(*arguments, **options)

    if int(os.environ["RANK"]) == rank:
        Image.open = open_image
    return main(words)


def _refusal(call: Any, *arguments: Any, **options: Any) -> str:
    try:
        call(*arguments, **options)
    except InputError as error:
        return str(error)
    return ""
