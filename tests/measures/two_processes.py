"""Run by torchrun from test_processes.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from reliability.scenery import make_model

from clipvg.errors import InputError
from clipvg.labels import read_labels
from clipvg.measures.specs import build_measures
from clipvg.reliability import Context, score_labels
from clipvg.reliability.together import measure_together
from clipvg.runtime import distributed

METHODS = ["likelihood", "attention_mass", "agreement", "knn,k=3", "region", "gradient_norm",
           "rank_mean,of=a+knn", "ambiguity"]  # fmt: skip


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    labels = read_labels(folder / "labels.parquet", images=folder)
    models = {"a": make_model(1), "b": make_model(2)}
    found = score_labels(labels, {**models, **build_measures(METHODS, models)})
    try:
        measure_together(build_measures(METHODS[:2], models), labels, Context(on_error="raise"))
        refused = ""
    except InputError as error:
        refused = str(error)
    np.save(folder / f"{dist.get_rank()}.npy", found.scores)
    (folder / f"{dist.get_rank()}.json").write_text(
        json.dumps([sorted(found.reasons.items()), refused])
    )


if __name__ == "__main__":
    distributed.join(torch.device("cpu"))
    main(Path(sys.argv[1]))
