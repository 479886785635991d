"""Run by torchrun from test_together.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from reliability.scenery import make_model

from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.reliability import score_labels
from clipvg.rescoring import plan
from clipvg.runtime import distributed


def refusal(labels: LabelTable, store: Path | None) -> str:
    try:
        score_labels(labels, {"a": make_model(1)}, on_error="raise", store=store)
    except InputError as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    plan.IMAGES_PER_SHARD = 2
    labels = read_labels(folder / "labels.parquet", images=folder)
    models = {"a": make_model(1), "b": make_model(2)}
    found = {
        "memory": score_labels(labels, models),
        "store": score_labels(labels, models, store=folder / "store"),
        "again": score_labels(labels, models, store=folder / "store"),
    }
    refused = [refusal(labels, store) for store in (None, folder / "store", folder / "new")]
    np.savez(folder / f"{dist.get_rank()}.npz", **{k: v.scores for k, v in found.items()})
    reasons = {name: sorted(matrix.reasons.items()) for name, matrix in found.items()}
    (folder / f"{dist.get_rank()}.json").write_text(json.dumps([reasons, refused]))


if __name__ == "__main__":
    distributed.join(torch.device("cpu"))
    main(Path(sys.argv[1]))
